//! The setup of a measurement: a deployment, a receiver and a publisher.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use hookline_testkit::client::ApiClient;
use hookline_testkit::dependencies::DependencyRoute;
use hookline_testkit::deployment::{Deployment, Mode, Service};
use serde_json::json;

use crate::child_process::{self, ReceiverProcess, Scheme};
use crate::cost::{Cpu, cpu_of, peak_memory};
use crate::ledger::ReceiverReport;
use crate::publisher::{Publish, Published};
use crate::receiver::SECRET;

/// A measurement fails if no delivery arrives for this time.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The organization of the published events.
const ORGANIZATION: &str = "org_bench";

/// The event type of workloads with one type.
pub const TYPE: &str = "workflow.completed";

/// Events in one request over HTTP, where a workload does not publish them one by one.
const IN_A_REQUEST: usize = 100;

/// Raises the limits per organization, key and target, which the measurement would hit first. Other settings keep their
/// defaults.
const SETTINGS: [(&str, &str); 7] = [
    ("HOOKLINE__LIMITS__EVENTS_PER_SECOND", "0"),
    ("HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN", "0"),
    ("HOOKLINE__API__REQUESTS_PER_SECOND_PER_KEY", "1000000"),
    ("HOOKLINE__API__BURST_PER_KEY", "1000000"),
    ("HOOKLINE__API__MAX_SUBSCRIPTIONS", "1000000"),
    ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "15"),
    ("HOOKLINE__LOG__LEVEL", "info"),
];

/// A deployment with one organization, and a receiver.
pub struct Setup {
    pub deployment: Deployment,
    pub receiver: ReceiverProcess,
    /// Its key belongs to the first organization and to all others.
    pub client: ApiClient,
    publish: Publish,
}

/// Options of a setup.
#[derive(Debug, Clone, Default)]
pub struct SetupOptions<'a> {
    /// Additional settings of the services.
    pub additional_settings: Vec<(&'a str, &'a str)>,
    /// The receiver uses TLS.
    pub tls: bool,
    /// The number of organizations; 0 means one.
    pub organizations: usize,
    /// Services that [`Setup::open`] does not start.
    pub later: Vec<Service>,
}

impl Setup {
    /// Starts a deployment with organizations and without subscriptions.
    pub async fn open(mode: Mode, options: SetupOptions<'_>) -> anyhow::Result<Self> {
        let authority = tempfile::NamedTempFile::new()?;
        let scheme = match options.tls {
            true => Scheme::Https(authority.path().to_owned()),
            false => Scheme::Http,
        };
        let receiver = ReceiverProcess::start(scheme).await?;
        let authority = authority.path().to_str().context("a path that is UTF-8")?;
        let mut settings = SETTINGS.to_vec();
        settings.extend(options.additional_settings);
        if options.tls {
            settings.push(("HOOKLINE__TARGETS__EXTRA_CA_FILE", authority));
        }
        let deployment = Deployment::prepare_on(DependencyRoute::Direct, mode, &settings).await?;
        for service in deployment.services() {
            if !options.later.contains(&service) {
                deployment.start_service(service, &[]).await?;
            }
        }
        deployment.wait_ready().await?;

        let names: Vec<String> = match options.organizations {
            0 => vec![ORGANIZATION.to_owned()],
            many => (0..many)
                .map(|number| format!("{ORGANIZATION}_{number}"))
                .collect(),
        };
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        deployment
            .hookline(&[&["org", "create"], &*all].concat())
            .await?;
        let also = all.iter().skip(1).flat_map(|name| ["--also", name]);
        let args: Vec<&str> = ["--org", all[0]].into_iter().chain(also).collect();
        let key = deployment.key(&args).await?;
        let api = format!("{}/v1", deployment.api());
        let client = ApiClient::new(&api, &key);
        let mut publish = Publish {
            organizations: names,
            types: vec![TYPE.to_owned()],
            batch: 1,
            ..Publish::default()
        };
        match mode {
            Mode::Distributed => publish.amqp = Some(deployment.dependencies()?.amqp.clone()),
            Mode::Standalone => (publish.api, publish.key) = (Some(api), key),
        }
        Ok(Self {
            deployment,
            receiver,
            client,
            publish,
        })
    }

    /// Creates a subscription of the first organization for this path of the receiver.
    pub async fn subscribe(&self, path: &str, event_type: &str) -> anyhow::Result<i64> {
        self.client
            .subscribe(&subscription(&self.receiver.url(path), event_type))
            .await
    }

    /// `count` events from number `first` on, as fast as they are accepted.
    pub fn many(&self, first: u64, count: u64) -> Publish {
        let batch = match self.deployment.mode {
            Mode::Distributed => 1,
            Mode::Standalone => IN_A_REQUEST,
        };
        Publish {
            first,
            count,
            batch,
            ..self.publish.clone()
        }
    }

    /// Events at a constant rate, of these types in turns.
    pub fn steadily(&self, rate: u32, seconds: u64, types: &[&str]) -> Publish {
        Publish {
            count: u64::from(rate) * seconds,
            rate: Some(rate),
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..self.publish.clone()
        }
    }

    /// Publishes, and waits for the `owed` deliveries.
    pub async fn deliver(
        &self,
        what: &Publish,
        owed: u64,
    ) -> anyhow::Result<(Published, ReceiverReport)> {
        tokio::try_join!(
            child_process::publish(what),
            self.receiver.wait_for(owed, PATIENCE)
        )
    }

    /// Delivers events that do not count: the first requests open connections and fill caches.
    pub async fn warm_up(&self, fan_out: u64) -> anyhow::Result<()> {
        const EVENTS: u64 = 1_000;
        self.deliver(&self.many(100_000_000, EVENTS), EVENTS * fan_out)
            .await?;
        self.receiver.reset().await
    }

    /// The ids of all processes except the publisher, with their names.
    async fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let mut all = vec![("receiver", self.receiver.id()?)];
        let parts: &[(&str, Service)] = match self.deployment.mode {
            Mode::Standalone => &[("hookline", Service::Api)],
            Mode::Distributed => {
                for (name, variable) in [
                    ("postgres", "HOOKLINE_TEST_POSTGRES_PID"),
                    ("rabbitmq", "HOOKLINE_TEST_RABBITMQ_PID"),
                ] {
                    let id = std::env::var(variable)
                        .with_context(|| format!("{variable} is not set"))?;
                    all.push((name, id.parse()?));
                }
                &[
                    ("subscription-api", Service::Api),
                    ("ingest", Service::Ingest),
                    ("dispatcher", Service::Dispatcher),
                ]
            }
        };
        for (name, service) in parts {
            all.extend(
                self.deployment
                    .processes(*service)
                    .await
                    .into_iter()
                    .map(|(id, _)| (*name, id)),
            );
        }
        Ok(all)
    }

    /// The CPU time of all processes except the publisher so far.
    pub async fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu::new();
        for (name, id) in self.processes().await? {
            *cpu.entry(name.to_owned()).or_default() += cpu_of(id)?;
        }
        Ok(cpu)
    }

    /// The peak memory of each process of Hookline, in MiB.
    pub async fn memory(&self) -> anyhow::Result<BTreeMap<String, f64>> {
        let mut memory = BTreeMap::<String, f64>::new();
        for (name, id) in self.processes().await? {
            if !["receiver", "postgres", "rabbitmq"].contains(&name) {
                let most = memory.entry(name.to_owned()).or_default();
                *most = most.max(peak_memory(id)?);
            }
        }
        Ok(memory)
    }

    /// Stops the deployment.
    pub async fn close(self) -> anyhow::Result<()> {
        self.deployment.end().await
    }
}

/// The request body that creates a subscription.
pub fn subscription(url: &str, event_type: &str) -> serde_json::Value {
    json!({"name": "bench", "url": url, "events": [event_type], "secret": SECRET})
}
