//! A deployment: a running Hookline with real processes, embedded or distributed.
//!
//! Each distributed deployment has its own database and its own vhost on the servers that `make test` starts. Deployments do not
//! see one another.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lapin::BasicProperties;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use crate::cli::{HooklineCli, owned};
use crate::dependencies::{DependencyRoute, TestDependencies};
use crate::managed_process::{ManagedProcess, Memory, free_port, readiness};
use crate::publisher::TestPublisher;
use crate::waiting::until;

/// The deployment mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One process on a folder.
    Standalone,
    /// Three services on PostgreSQL and RabbitMQ.
    Distributed,
}

/// A service; in the standalone deployment the one process is each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `subscription-api`
    Api,
    /// `ingest`
    Ingest,
    /// `dispatcher`
    Dispatcher,
}

impl Service {
    const ALL: [Service; 3] = [Service::Api, Service::Ingest, Service::Dispatcher];

    fn binary(self) -> &'static str {
        match self {
            Service::Api => "subscription-api",
            Service::Ingest => "ingest",
            Service::Dispatcher => "dispatcher",
        }
    }
}

/// A running Hookline.
pub struct Deployment {
    /// Which one.
    pub mode: Mode,
    folder: TempDir,
    api: u16,
    cli: HooklineCli,
    running: Mutex<Vec<RunningProcess>>,
    dependencies: Option<TestDependencies>,
    publishing: OnceCell<TestPublisher>,
    organizations: AtomicU32,
}

struct RunningProcess {
    service: Service,
    process: ManagedProcess,
    admin: u16,
}

/// The master key of every deployment that is not given another.
pub const MASTER_KEY: &str = "k1:b2gsIHdoYXQgYSBrZXkgdG8gc2VlIGluIGEgdGVzdCE=";

/// The settings that scenarios need: receivers on loopback, retries that do not take a day.
const SETTINGS: [(&str, &str); 7] = [
    ("HOOKLINE__TARGETS__ALLOW_HTTP", "true"),
    ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "true"),
    ("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[1,1,2]"),
    ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "3"),
    ("HOOKLINE__SECRETS__KEYS", MASTER_KEY),
    // All scenarios call from one address, and many of them with wrong keys.
    ("HOOKLINE__API__FAILED_TRIES_PER_MINUTE", "1000000"),
    ("HOOKLINE__LOG__LEVEL", "hookline=debug,info"),
];

impl Deployment {
    /// Starts a deployment and waits until it is ready.
    pub async fn start(mode: Mode) -> anyhow::Result<Self> {
        Self::start_with(mode, &[]).await
    }

    /// The same with settings of its own.
    pub async fn start_with(mode: Mode, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_on(DependencyRoute::Proxied, mode, settings).await
    }

    /// The same, with this way to its servers.
    pub async fn start_on(
        route: DependencyRoute,
        mode: Mode,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let deployment = Self::prepare_on(route, mode, settings).await?;
        for service in deployment.services() {
            deployment.start_service(service, &[]).await?;
        }
        deployment.wait_ready().await?;
        Ok(deployment)
    }

    /// A deployment with its servers and nothing running.
    pub async fn prepare(mode: Mode, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::prepare_on(DependencyRoute::Proxied, mode, settings).await
    }

    /// The same, with this way to its servers.
    pub async fn prepare_on(
        route: DependencyRoute,
        mode: Mode,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hookline-acceptance-")
            .tempdir()?;
        let mut variables: Vec<_> = owned(&SETTINGS).chain(owned(settings)).collect();
        let dependencies = match mode {
            Mode::Standalone => None,
            Mode::Distributed => Some(TestDependencies::create().await?),
        };
        if let Some(dependencies) = &dependencies {
            variables.extend(dependencies.settings(route)?);
        }
        let data = folder.path().join("data");
        let data = (mode == Mode::Standalone).then_some(data.as_path());
        let cli = HooklineCli::new(variables, data)?;
        if mode == Mode::Distributed {
            cli.run(&["migrate"]).await?;
        }
        Ok(Self {
            mode,
            folder,
            api: free_port()?,
            cli,
            running: Mutex::default(),
            dependencies,
            publishing: OnceCell::new(),
            organizations: AtomicU32::new(0),
        })
    }

    /// The services that are processes of their own.
    pub fn services(&self) -> Vec<Service> {
        match self.mode {
            Mode::Standalone => vec![Service::Api],
            Mode::Distributed => Service::ALL.to_vec(),
        }
    }

    fn process_of(&self, service: Service) -> Service {
        match self.mode {
            Mode::Standalone => Service::Api,
            Mode::Distributed => service,
        }
    }

    /// Starts a service, or one more replica of it, with additional variables.
    pub async fn start_service(
        &self,
        service: Service,
        additional_variables: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let service = self.process_of(service);
        let admin = free_port()?;
        let mut variables = self.cli.variables().to_vec();
        variables.push((
            "HOOKLINE__ADMIN__LISTEN".to_owned(),
            format!("127.0.0.1:{admin}"),
        ));
        let listen = format!("127.0.0.1:{}", self.api);
        variables.push(("HOOKLINE__API__LISTEN".to_owned(), listen.clone()));
        variables.extend(owned(additional_variables));
        let process = match self.mode {
            Mode::Standalone => {
                let mut args = vec!["serve", "--listen", &listen];
                args.extend(self.cli.location().iter().map(String::as_str));
                ManagedProcess::start("hookline", &args, &variables, self.folder.path())?
            }
            Mode::Distributed => {
                if service == Service::Ingest {
                    // It neither signs nor changes what signs.
                    variables.retain(|(name, _)| name != "HOOKLINE__SECRETS__KEYS");
                }
                ManagedProcess::start(service.binary(), &[], &variables, self.folder.path())?
            }
        };
        self.running.lock().await.push(RunningProcess {
            service,
            process,
            admin,
        });
        Ok(())
    }

    /// Waits until every process is ready.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = until("readiness", async || {
            for running in self.running.lock().await.iter_mut() {
                ensure!(
                    running.process.is_running(),
                    "ended early: {}",
                    running.process.output()
                );
                if readiness(running.admin).await != 200 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        match ready.await {
            Ok(()) => Ok(()),
            Err(why) => Err(why.context(self.output().await)),
        }
    }

    /// Kills every process of a service with SIGKILL.
    pub async fn kill(&self, service: Service) -> anyhow::Result<()> {
        for mut running in self.take(service).await {
            running.process.kill().await?;
        }
        Ok(())
    }

    /// Stops every process of a service with SIGTERM and waits for their good end.
    pub async fn stop(&self, service: Service) -> anyhow::Result<()> {
        for mut running in self.take(service).await {
            running.process.signal("TERM").await?;
            let status = running.process.wait().await?;
            ensure!(
                status.success(),
                "{service:?} ended with {status}: {}",
                running.process.output()
            );
        }
        Ok(())
    }

    /// Stops a service, starts it with additional variables, and waits until all are ready.
    pub async fn restart(&self, service: Service, extra: &[(&str, &str)]) -> anyhow::Result<()> {
        self.stop(service).await?;
        self.start_service(service, extra).await?;
        self.wait_ready().await
    }

    /// Waits until a service has ended at its fault point, starts it, and waits until all are ready.
    pub async fn replace_crashed(&self, service: Service) -> anyhow::Result<()> {
        let ended = self.wait_for_end(service).await;
        ended.context("the fault point was not reached")?;
        self.start_service(service, &[]).await?;
        self.wait_ready().await
    }

    /// Stops the oldest process of a service with SIGTERM and waits for its good end. Returns the time that it took.
    pub async fn stop_oldest(&self, service: Service) -> anyhow::Result<Duration> {
        let service = self.process_of(service);
        let mut oldest = {
            let mut all = self.running.lock().await;
            let place = all.iter().position(|running| running.service == service);
            all.remove(place.context("it does not run")?)
        };
        let asked = Instant::now();
        oldest.process.signal("TERM").await?;
        let status = oldest.process.wait().await?;
        ensure!(
            status.success(),
            "{service:?} ended with {status}: {}",
            oldest.process.output()
        );
        Ok(asked.elapsed())
    }

    /// Sends a signal by its name, such as `STOP`, to the oldest process of a service.
    pub async fn signal_oldest(&self, service: Service, name: &str) -> anyhow::Result<()> {
        let service = self.process_of(service);
        let all = self.running.lock().await;
        let oldest = all.iter().find(|running| running.service == service);
        let oldest = oldest.context("it does not run")?;
        oldest.process.signal(name).await
    }

    /// Waits until a service that was told to stop has ended well, and forgets it.
    pub async fn wait_for_good_end(&self, service: Service) -> anyhow::Result<()> {
        for mut running in self.take(service).await {
            let status = running.process.wait().await?;
            ensure!(status.success(), "{service:?} ended with {status}");
        }
        Ok(())
    }

    /// Waits until a service has ended by itself, and forgets it.
    pub async fn wait_for_end(&self, service: Service) -> anyhow::Result<()> {
        for mut running in self.take(service).await {
            running.process.wait().await?;
        }
        Ok(())
    }

    /// Restarts every process that has ended by itself, with additional variables. Returns the number of restarts.
    pub async fn restart_ended(
        &self,
        additional_variables: &[(&str, &str)],
    ) -> anyhow::Result<usize> {
        let ended: Vec<Service> = {
            let mut all = self.running.lock().await;
            all.extract_if(.., |running| !running.process.is_running())
                .map(|ended| ended.service)
                .collect()
        };
        for service in &ended {
            self.start_service(*service, additional_variables).await?;
        }
        Ok(ended.len())
    }

    async fn take(&self, service: Service) -> Vec<RunningProcess> {
        let service = self.process_of(service);
        let mut all = self.running.lock().await;
        let (taken, rest) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|running| running.service == service);
        *all = rest;
        taken
    }

    /// The status of `/readyz` on a service's admin listener; 0 without an answer.
    pub async fn readiness(&self, service: Service) -> u16 {
        let service = self.process_of(service);
        let admin = self
            .running
            .lock()
            .await
            .iter()
            .find(|running| running.service == service)
            .map(|running| running.admin);
        match admin {
            Some(admin) => readiness(admin).await,
            None => 0,
        }
    }

    /// How much memory a service holds.
    pub async fn memory(&self, service: Service) -> anyhow::Result<Memory> {
        let service = self.process_of(service);
        let all = self.running.lock().await;
        let running = all.iter().find(|running| running.service == service);
        running.context("it does not run")?.process.memory()
    }

    /// The admin listener of a service, such as `http://127.0.0.1:9090`.
    pub async fn admin(&self, service: Service) -> anyhow::Result<String> {
        let service = self.process_of(service);
        let all = self.running.lock().await;
        let running = all
            .iter()
            .find(|running| running.service == service)
            .context("it does not run")?;
        Ok(format!("http://127.0.0.1:{}", running.admin))
    }

    /// The processes of a service: their ids and admin listeners.
    pub async fn processes(&self, service: Service) -> Vec<(u32, String)> {
        let service = self.process_of(service);
        let all = self.running.lock().await;
        all.iter()
            .filter(|running| running.service == service)
            .filter_map(|running| {
                let admin = format!("http://127.0.0.1:{}", running.admin);
                Some((running.process.id()?, admin))
            })
            .collect()
    }

    /// The API, without a prefix.
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// The data folder of the standalone deployment.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The servers of a distributed deployment.
    pub fn dependencies(&self) -> anyhow::Result<&TestDependencies> {
        self.dependencies
            .as_ref()
            .context("a standalone deployment has no servers")
    }

    /// Runs a command of `hookline` on this deployment.
    pub async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cli.run(args).await
    }

    /// The same with additional variables.
    pub async fn hookline_with(
        &self,
        args: &[&str],
        additional_variables: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        self.cli.run_with(args, additional_variables).await
    }

    /// The name of an organization that no other scenario of this deployment uses.
    pub(crate) fn new_organization(&self) -> String {
        let number = self.organizations.fetch_add(1, Ordering::Relaxed);
        format!("org_{number}")
    }

    /// A new key, made with these arguments of `hookline key create`.
    pub async fn key(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cli.create_key(args).await
    }

    /// Publishes to `workflow.events` as a workflow service does, and waits for the confirm.
    pub async fn publish_amqp(
        &self,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let publisher = self
            .publishing
            .get_or_try_init(async || TestPublisher::connect(&self.dependencies()?.amqp).await)
            .await?;
        publisher.publish(routing_key, body, properties).await
    }

    /// The output of `hookline dead-letters list`.
    pub async fn dead_letters(&self) -> anyhow::Result<Vec<Value>> {
        let listed: Value =
            serde_json::from_str(&self.hookline(&["dead-letters", "list", "--json"]).await?)?;
        let letters = listed["dead_letters"].as_array();
        letters.cloned().context("no dead_letters")
    }

    /// The output of all processes so far.
    pub async fn output(&self) -> String {
        let all = self.running.lock().await;
        all.iter()
            .map(|running| format!("--- {:?}\n{}", running.service, running.process.output()))
            .collect()
    }

    /// Ends every process.
    pub async fn end_processes(&self) {
        self.running.lock().await.clear();
    }

    /// Ends every process, and removes the deployment's data from the servers.
    ///
    /// # Errors
    /// When a process cannot be ended, or data cannot be removed.
    pub async fn end(&self) -> anyhow::Result<()> {
        self.end_processes().await;
        match &self.dependencies {
            Some(dependencies) => dependencies.remove().await,
            None => Ok(()),
        }
    }
}
