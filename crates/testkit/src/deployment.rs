//! A home: a running Hookline with real processes, embedded or distributed.
//!
//! Each distributed home has its own database and its own vhost on the servers that `make test` starts. Homes do not
//! see one another.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lapin::BasicProperties;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use crate::client::Client;
use crate::dependencies::Peers;
use crate::managed_process::{Memory, Process, free_port, hookline};
use crate::publisher::Publisher;
use crate::tenant::Tenant;
use crate::waiting::until;

/// The kind of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One process on a folder.
    Embedded,
    /// Three services on PostgreSQL and RabbitMQ.
    Distributed,
}

/// How a home connects to its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through proxies that can be cut.
    Proxied,
    /// Without a proxy, for measurements.
    Straight,
}

/// A service; in the embedded home the one process is each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `subscription-api`
    Api,
    /// `ingest`
    Ingest,
    /// `dispatcher`
    Dispatcher,
}

impl Part {
    const ALL: [Part; 3] = [Part::Api, Part::Ingest, Part::Dispatcher];

    fn binary(self) -> &'static str {
        match self {
            Part::Api => "subscription-api",
            Part::Ingest => "ingest",
            Part::Dispatcher => "dispatcher",
        }
    }
}

/// A running Hookline.
pub struct Home {
    /// Which one.
    pub kind: Kind,
    folder: TempDir,
    api: u16,
    variables: Vec<(String, String)>,
    running: Mutex<Vec<Running>>,
    peers: Option<Peers>,
    publishing: OnceCell<Publisher>,
    tenants: AtomicU32,
}

struct Running {
    part: Part,
    process: Process,
    admin: u16,
}

/// The master key of every home that is not given another.
pub const MASTER_KEY: &str = "k1:b2gsIHdoYXQgYSBrZXkgdG8gc2VlIGluIGEgdGVzdCE=";

/// The settings that sentences need: receivers on loopback, retries that do not take a day.
const SETTINGS: [(&str, &str); 7] = [
    ("HOOKLINE__TARGETS__ALLOW_HTTP", "true"),
    ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "true"),
    ("HOOKLINE__RETRY__SCHEDULE_SECONDS", "[1,1,2]"),
    ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "3"),
    ("HOOKLINE__SECRETS__KEYS", MASTER_KEY),
    // All sentences call from one address, and many of them with wrong keys.
    ("HOOKLINE__API__FAILED_TRIES_PER_MINUTE", "1000000"),
    ("HOOKLINE__LOG__LEVEL", "hookline=debug,info"),
];

impl Home {
    /// Starts a home and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn start(kind: Kind) -> anyhow::Result<Self> {
        Self::start_with(kind, &[]).await
    }

    /// The same with settings of its own.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn start_with(kind: Kind, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::start_by(Way::Proxied, kind, settings).await
    }

    /// The same, with this way to its servers.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn start_by(way: Way, kind: Kind, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let home = Self::prepare_by(way, kind, settings).await?;
        for part in home.parts() {
            home.start_part(part, &[]).await?;
        }
        home.wait_ready().await?;
        Ok(home)
    }

    /// A home with its servers and nothing running.
    ///
    /// # Errors
    /// When its servers are not there.
    pub async fn prepare(kind: Kind, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        Self::prepare_by(Way::Proxied, kind, settings).await
    }

    /// The same, with this way to its servers.
    ///
    /// # Errors
    /// When its servers are not there.
    pub async fn prepare_by(
        way: Way,
        kind: Kind,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("hookline-acceptance-")
            .tempdir()?;
        let mut variables: Vec<(String, String)> = SETTINGS
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let peers = match kind {
            Kind::Embedded => None,
            Kind::Distributed => Some(Peers::make().await?),
        };
        if let Some(peers) = &peers {
            variables.extend(peers.settings(way)?);
            hookline(&["migrate"], &variables).await?;
        }
        Ok(Self {
            kind,
            folder,
            api: free_port()?,
            variables,
            running: Mutex::default(),
            peers,
            publishing: OnceCell::new(),
            tenants: AtomicU32::new(0),
        })
    }

    /// The parts that are processes of their own.
    pub fn parts(&self) -> Vec<Part> {
        match self.kind {
            Kind::Embedded => vec![Part::Api],
            Kind::Distributed => Part::ALL.to_vec(),
        }
    }

    fn process_of(&self, part: Part) -> Part {
        match self.kind {
            Kind::Embedded => Part::Api,
            Kind::Distributed => part,
        }
    }

    /// Starts a part, or one more replica of it, with additional variables.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_part(&self, part: Part, besides: &[(&str, &str)]) -> anyhow::Result<()> {
        let part = self.process_of(part);
        let admin = free_port()?;
        let mut variables = self.variables.clone();
        variables.push((
            "HOOKLINE__ADMIN__LISTEN".to_owned(),
            format!("127.0.0.1:{admin}"),
        ));
        let listen = format!("127.0.0.1:{}", self.api);
        variables.push(("HOOKLINE__API__LISTEN".to_owned(), listen.clone()));
        variables.extend(
            besides
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let data = self.data_folder();
        let process = match self.kind {
            Kind::Embedded => {
                let folder = data.to_str().context("a folder that is UTF-8")?;
                let args = ["serve", "--listen", &listen, "--data-dir", folder];
                Process::start("hookline", &args, &variables, self.folder.path())?
            }
            Kind::Distributed => {
                if part == Part::Ingest {
                    // It neither signs nor changes what signs.
                    variables.retain(|(name, _)| name != "HOOKLINE__SECRETS__KEYS");
                }
                Process::start(part.binary(), &[], &variables, self.folder.path())?
            }
        };
        self.running.lock().await.push(Running {
            part,
            process,
            admin,
        });
        Ok(())
    }

    /// Waits until every process is ready.
    ///
    /// # Errors
    /// When one does not get there.
    pub async fn wait_ready(&self) -> anyhow::Result<()> {
        let ready = until("readiness", async || {
            for running in self.running.lock().await.iter_mut() {
                ensure!(
                    running.process.is_running(),
                    "ended early: {}",
                    running.process.said()
                );
                if !is_ready(running.admin).await {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        match ready.await {
            Ok(()) => Ok(()),
            Err(why) => Err(why.context(self.said().await)),
        }
    }

    /// Kills every process of a part with SIGKILL.
    ///
    /// # Errors
    /// When one cannot be killed.
    pub async fn kill(&self, part: Part) -> anyhow::Result<()> {
        for mut running in self.take(part).await {
            running.process.kill().await?;
        }
        Ok(())
    }

    /// Stops every process of a part with SIGTERM and waits for their good end.
    ///
    /// # Errors
    /// When one ends badly.
    pub async fn stop(&self, part: Part) -> anyhow::Result<()> {
        for mut running in self.take(part).await {
            running.process.signal("TERM").await?;
            let status = running.process.ended().await?;
            ensure!(
                status.success(),
                "{part:?} ended with {status}: {}",
                running.process.said()
            );
        }
        Ok(())
    }

    /// Stops the oldest process of a part with SIGTERM and waits for its good end. Returns the time that it took.
    ///
    /// # Errors
    /// When there is none, or it ends badly.
    pub async fn stop_oldest(&self, part: Part) -> anyhow::Result<Duration> {
        let kind = self.process_of(part);
        let mut oldest = {
            let mut all = self.running.lock().await;
            let place = all.iter().position(|running| running.part == kind);
            all.remove(place.context("it does not run")?)
        };
        let asked = Instant::now();
        oldest.process.signal("TERM").await?;
        let status = oldest.process.ended().await?;
        ensure!(
            status.success(),
            "{part:?} ended with {status}: {}",
            oldest.process.said()
        );
        Ok(asked.elapsed())
    }

    /// Sends a signal by its name, such as `STOP`, to the oldest process of a part.
    ///
    /// # Errors
    /// When there is none.
    pub async fn signal_oldest(&self, part: Part, name: &str) -> anyhow::Result<()> {
        let part = self.process_of(part);
        let all = self.running.lock().await;
        let oldest = all.iter().find(|running| running.part == part);
        let oldest = oldest.context("it does not run")?;
        oldest.process.signal(name).await
    }

    /// Waits until a part that was told to stop has ended well, and forgets it.
    ///
    /// # Errors
    /// When it does not end, or ends badly.
    pub async fn wait_for_good_end(&self, part: Part) -> anyhow::Result<()> {
        for mut running in self.take(part).await {
            let status = running.process.ended().await?;
            ensure!(status.success(), "{part:?} ended with {status}");
        }
        Ok(())
    }

    /// Waits until a part has ended by itself, and forgets it.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn wait_for_end(&self, part: Part) -> anyhow::Result<()> {
        for mut running in self.take(part).await {
            running.process.ended().await?;
        }
        Ok(())
    }

    /// Restarts every process that has ended by itself, with additional variables. Returns the number of restarts.
    ///
    /// # Errors
    /// When one cannot be started.
    pub async fn restart_ended(&self, besides: &[(&str, &str)]) -> anyhow::Result<usize> {
        let ended: Vec<Part> = {
            let mut all = self.running.lock().await;
            all.extract_if(.., |running| !running.process.is_running())
                .map(|ended| ended.part)
                .collect()
        };
        for part in &ended {
            self.start_part(*part, besides).await?;
        }
        Ok(ended.len())
    }

    async fn take(&self, part: Part) -> Vec<Running> {
        let part = self.process_of(part);
        let mut all = self.running.lock().await;
        let (taken, rest) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|running| running.part == part);
        *all = rest;
        taken
    }

    /// The status of `/readyz` on a part's admin listener; 0 without an answer.
    pub async fn readiness(&self, part: Part) -> u16 {
        let part = self.process_of(part);
        let admin = self
            .running
            .lock()
            .await
            .iter()
            .find(|running| running.part == part)
            .map(|running| running.admin);
        match admin {
            Some(admin) => get_status(&format!("http://127.0.0.1:{admin}/readyz")).await,
            None => 0,
        }
    }

    /// How much memory a part holds.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn memory(&self, part: Part) -> anyhow::Result<Memory> {
        let part = self.process_of(part);
        let all = self.running.lock().await;
        let running = all.iter().find(|running| running.part == part);
        running.context("it does not run")?.process.memory()
    }

    /// The admin listener of a part, such as `http://127.0.0.1:9090`.
    ///
    /// # Errors
    /// When the part does not run.
    pub async fn admin(&self, part: Part) -> anyhow::Result<String> {
        let part = self.process_of(part);
        let all = self.running.lock().await;
        let running = all
            .iter()
            .find(|running| running.part == part)
            .context("it does not run")?;
        Ok(format!("http://127.0.0.1:{}", running.admin))
    }

    /// The processes of a part: their ids and admin listeners.
    pub async fn processes(&self, part: Part) -> Vec<(u32, String)> {
        let part = self.process_of(part);
        let all = self.running.lock().await;
        all.iter()
            .filter(|running| running.part == part)
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

    /// The data folder of the embedded home.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The servers of a distributed home.
    ///
    /// # Errors
    /// In an embedded home, which has none.
    pub fn peers(&self) -> anyhow::Result<&Peers> {
        self.peers
            .as_ref()
            .context("an embedded home has no servers")
    }

    /// Runs a command of `hookline` on this home.
    ///
    /// # Errors
    /// When it fails.
    pub async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.hookline_with(args, &[]).await
    }

    /// The same with additional variables.
    ///
    /// # Errors
    /// When it fails.
    pub async fn hookline_with(
        &self,
        args: &[&str],
        besides: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let data = self.data_folder();
        let mut args = args.to_vec();
        if self.kind == Kind::Embedded {
            args.extend([
                "--data-dir",
                data.to_str().context("a folder that is UTF-8")?,
            ]);
        }
        let mut variables = self.variables.clone();
        variables.extend(
            besides
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        hookline(&args, &variables).await
    }

    /// A new organization that no other sentence uses, with a key that may do everything.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn tenant(&self) -> anyhow::Result<Tenant<'_>> {
        let number = self.tenants.fetch_add(1, Ordering::Relaxed);
        let organization = format!("org_{number}");
        self.hookline(&["org", "create", &organization]).await?;
        let key = self.key(&["--org", &organization]).await?;
        let client = Client::new(&format!("{}/v1", self.api()), &key);
        Ok(Tenant {
            home: self,
            organization,
            client,
        })
    }

    /// A new key, made with these arguments of `hookline key create`.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn key(&self, args: &[&str]) -> anyhow::Result<String> {
        let printed = self.hookline(&[&["key", "create"], args].concat()).await?;
        Ok(printed
            .lines()
            .last()
            .context("no key was printed")?
            .to_owned())
    }

    /// Publishes to `workflow.events` as a workflow service does, and waits for the confirm.
    ///
    /// # Errors
    /// When it is not confirmed.
    pub async fn publish_amqp(
        &self,
        routing_key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let publisher = self
            .publishing
            .get_or_try_init(async || Publisher::connect(&self.peers()?.amqp).await)
            .await?;
        publisher.publish(routing_key, body, properties).await
    }

    /// The output of `hookline dead-letters list`.
    ///
    /// # Errors
    /// When it shows nothing.
    pub async fn dead_letters(&self) -> anyhow::Result<Vec<Value>> {
        let listed: Value =
            serde_json::from_str(&self.hookline(&["dead-letters", "list", "--json"]).await?)?;
        let letters = listed["dead_letters"].as_array();
        letters.cloned().context("no dead_letters")
    }

    /// The output of all processes so far.
    pub async fn said(&self) -> String {
        let all = self.running.lock().await;
        all.iter()
            .map(|running| format!("--- {:?}\n{}", running.part, running.process.said()))
            .collect()
    }

    /// Ends every process.
    pub async fn end_processes(&self) {
        self.running.lock().await.clear();
    }

    /// Ends every process, and removes the home's data from the servers.
    ///
    /// # Errors
    /// When a process cannot be ended, or data cannot be removed.
    pub async fn end(&self) -> anyhow::Result<()> {
        self.end_processes().await;
        match &self.peers {
            Some(peers) => peers.remove().await,
            None => Ok(()),
        }
    }
}

async fn is_ready(admin: u16) -> bool {
    get_status(&format!("http://127.0.0.1:{admin}/readyz")).await == 200
}

async fn get_status(url: &str) -> u16 {
    match reqwest::get(url).await {
        Ok(response) => response.status().as_u16(),
        Err(_) => 0,
    }
}
