//! A home, a receiver and what is published: everything that a measurement is made with.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use hookline_acceptance::client::Client;
use hookline_acceptance::home::{Home, Kind, Part, Way};
use serde_json::json;

use crate::cost::{Cpu, cpu_of, peak_memory};
use crate::ledger::Report;
use crate::publisher::{Publish, Published};
use crate::receiver::SECRET;
use crate::role::{self, Receiver, Scheme};

/// So long nothing may come before a measurement is given up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whose events they are.
const ORGANIZATION: &str = "org_bench";

/// What everything wants that wants one type.
pub const TYPE: &str = "workflow.completed";

/// How many events go in one request, where they go over HTTP and not one by one.
const IN_A_REQUEST: usize = 100;

/// Limits of one tenant or one target would be what is measured; the rest is as it comes.
const SETTINGS: [(&str, &str); 7] = [
    ("HOOKLINE__LIMITS__EVENTS_PER_SECOND", "0"),
    ("HOOKLINE__TARGETS__MAX_PER_SECOND_PER_ORIGIN", "0"),
    ("HOOKLINE__API__REQUESTS_PER_SECOND_PER_KEY", "1000000"),
    ("HOOKLINE__API__BURST_PER_KEY", "1000000"),
    ("HOOKLINE__API__MAX_SUBSCRIPTIONS", "1000000"),
    ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "15"),
    ("HOOKLINE__LOG__LEVEL", "info"),
];

/// A home with one organization, and a receiver.
pub struct Stage {
    /// The home.
    pub home: Home,
    /// The receiver.
    pub receiver: Receiver,
    /// Speaks for the organization, and for all others that its key belongs to.
    pub client: Client,
    publish: Publish,
}

/// What is set besides.
#[derive(Debug, Clone, Default)]
pub struct Setting<'a> {
    /// Other settings of the services.
    pub besides: Vec<(&'a str, &'a str)>,
    /// Speak TLS to the receiver.
    pub tls: bool,
    /// How many organizations there are.
    pub organizations: usize,
    /// Services that do not run yet.
    pub later: Vec<Part>,
}

impl Stage {
    /// Starts a home with nothing in it.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn open(kind: Kind, setting: Setting<'_>) -> anyhow::Result<Self> {
        let authority = tempfile::NamedTempFile::new()?;
        let scheme = match setting.tls {
            true => Scheme::Https(authority.path().to_owned()),
            false => Scheme::Http,
        };
        let receiver = Receiver::start(scheme).await?;
        let authority = authority.path().to_str().context("a path that is UTF-8")?;
        let mut settings = SETTINGS.to_vec();
        settings.extend(setting.besides);
        if setting.tls {
            settings.push(("HOOKLINE__TARGETS__EXTRA_CA_FILE", authority));
        }
        let home = Home::prepare_by(Way::Straight, kind, &settings).await?;
        for part in home.parts() {
            if !setting.later.contains(&part) {
                home.start_part(part, &[]).await?;
            }
        }
        home.wait_ready().await?;

        let names: Vec<String> = match setting.organizations {
            0 => vec![ORGANIZATION.to_owned()],
            many => (0..many)
                .map(|number| format!("{ORGANIZATION}_{number}"))
                .collect(),
        };
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        home.hookline(&[&["org", "create"], &*all].concat()).await?;
        let also = all.iter().skip(1).flat_map(|name| ["--also", name]);
        let args: Vec<&str> = ["--org", all[0]].into_iter().chain(also).collect();
        let key = home.key(&args).await?;
        let api = format!("{}/v1", home.api());
        let client = Client::new(&api, &key);
        let mut publish = Publish {
            organizations: names,
            types: vec![TYPE.to_owned()],
            batch: 1,
            ..Publish::default()
        };
        match kind {
            Kind::Distributed => publish.amqp = Some(home.peers()?.amqp.clone()),
            Kind::Embedded => (publish.api, publish.key) = (Some(api), key),
        }
        Ok(Self {
            home,
            receiver,
            client,
            publish,
        })
    }

    /// Makes a subscription of the first organization to this path of the receiver.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn subscribe(&self, path: &str, event_type: &str) -> anyhow::Result<i64> {
        self.client
            .subscribe(&subscription(&self.receiver.url(path), event_type))
            .await
    }

    /// Events `first` and the following, as fast as they are taken.
    pub fn many(&self, first: u64, count: u64) -> Publish {
        let batch = match self.home.kind {
            Kind::Distributed => 1,
            Kind::Embedded => IN_A_REQUEST,
        };
        Publish {
            first,
            count,
            batch,
            ..self.publish.clone()
        }
    }

    /// Events at a steady rate, of these types in turns.
    pub fn steadily(&self, rate: u32, seconds: u64, types: &[&str]) -> Publish {
        Publish {
            count: u64::from(rate) * seconds,
            rate: Some(rate),
            types: types.iter().map(|name| (*name).to_owned()).collect(),
            ..self.publish.clone()
        }
    }

    /// Publishes, and waits until all that is owed for it has come.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn deliver(&self, what: &Publish, owed: u64) -> anyhow::Result<(Published, Report)> {
        tokio::try_join!(role::publish(what), self.receiver.wait_for(owed, PATIENCE))
    }

    /// Delivers some that do not count: first requests find connections unmade and caches empty.
    ///
    /// # Errors
    /// When they do not come.
    pub async fn warm_up(&self, fan_out: u64) -> anyhow::Result<()> {
        const EVENTS: u64 = 1_000;
        self.deliver(&self.many(100_000_000, EVENTS), EVENTS * fan_out)
            .await?;
        self.receiver.reset().await
    }

    /// All processes but the publisher's, by name.
    async fn processes(&self) -> anyhow::Result<Vec<(&'static str, u32)>> {
        let mut all = vec![("receiver", self.receiver.id()?)];
        let parts: &[(&str, Part)] = match self.home.kind {
            Kind::Embedded => &[("hookline", Part::Api)],
            Kind::Distributed => {
                for (name, variable) in [
                    ("postgres", "HOOKLINE_TEST_POSTGRES_PID"),
                    ("rabbitmq", "HOOKLINE_TEST_RABBITMQ_PID"),
                ] {
                    let id = std::env::var(variable)
                        .with_context(|| format!("{variable} is not set"))?;
                    all.push((name, id.parse()?));
                }
                &[
                    ("subscription-api", Part::Api),
                    ("ingest", Part::Ingest),
                    ("dispatcher", Part::Dispatcher),
                ]
            }
        };
        for (name, part) in parts {
            all.extend(
                self.home
                    .processes(*part)
                    .await
                    .into_iter()
                    .map(|(id, _)| (*name, id)),
            );
        }
        Ok(all)
    }

    /// What they have cost so far.
    ///
    /// # Errors
    /// When one has ended.
    pub async fn cpu(&self) -> anyhow::Result<Cpu> {
        let mut cpu = Cpu::new();
        for (name, id) in self.processes().await? {
            *cpu.entry(name.to_owned()).or_default() += cpu_of(id)?;
        }
        Ok(cpu)
    }

    /// The most memory that each of ours has had, in MiB.
    ///
    /// # Errors
    /// When one has ended.
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

    /// Ends everything.
    ///
    /// # Errors
    /// When something cannot be ended.
    pub async fn close(self) -> anyhow::Result<()> {
        self.home.end().await
    }
}

/// What the API is told.
pub fn subscription(url: &str, event_type: &str) -> serde_json::Value {
    json!({"name": "bench", "url": url, "events": [event_type], "secret": SECRET})
}
