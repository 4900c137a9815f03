//! The system under test: a deployment with processes and servers that are hit and come back.

mod checks;
mod clocks;
mod disks;
mod failover;
mod faults;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hookline_testkit::cli::{HooklineCli, owned};
use hookline_testkit::client::ApiClient;
use hookline_testkit::database_faults::OngoingFault;
use hookline_testkit::deployment::{MASTER_KEY, Mode};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::small_disk::{SMALL, SmallDisk};
use hookline_testkit::waiting::until;
use tokio::task::JoinSet;

use super::abuse::AbuseTarget;
use super::fault::Target;
use super::ledger::LostCommits;
use super::links::{FaultPoints, NetworkLinks, WallClock};
use super::owners::Owners;
use super::plan::{DEADLINE, Plan, SLOTS};
use super::process::ChaosProcess;
use super::receivers::RefusalSwitch;
use super::scenario::Scenario;
use super::servers::{DependencyServer, Servers};
use disks::{Disk, disk_of_database};
use failover::DatabaseCopy;

/// Two organizations, so that what belongs to one is seen not to reach the other.
const ORGANIZATIONS: [&str; 2] = ["org_left", "org_right"];

/// Short waits, and enough of them: an attempt may fail because a process was frozen meanwhile.
const SETTINGS: [(&str, &str); 7] = [
    ("HOOKLINE__SECRETS__KEYS", MASTER_KEY),
    ("HOOKLINE__TARGETS__ALLOW_HTTP", "true"),
    ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "true"),
    (
        "HOOKLINE__RETRY__SCHEDULE_SECONDS",
        "[1,1,2,2,3,3,5,5,8,8,10,10,10,10]",
    ),
    // A process that is killed every few seconds may hold the same request each time. That request is no poison.
    ("HOOKLINE__POISON__GIVE_UP_AFTER", "20"),
    ("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "120"),
    ("HOOKLINE__LOG__LEVEL", "info"),
];

/// The fault point that drops wake-ups.
const WAKE_UPS: &str = "queue::wake";

/// An organization and a client with its key.
pub(crate) struct ChaosOrganization {
    pub(crate) organization: &'static str,
    pub(crate) client: ApiClient,
}

/// A running deployment.
pub(crate) struct System {
    pub(crate) tenants: Vec<ChaosOrganization>,
    pub(crate) servers: Option<Servers>,
    /// The failed checks, besides those of the ledger.
    pub(crate) problems: Vec<String>,
    /// Makes the receivers refuse requests while it is on.
    pub(crate) refusal: RefusalSwitch,
    /// The commits that failovers have lost.
    pub(crate) lost: Vec<LostCommits>,
    plan: Plan,
    processes: Vec<ChaosProcess>,
    /// Further dispatchers, in the order in which they started.
    additional_dispatchers: Vec<ChaosProcess>,
    joined: usize,
    /// One for each dispatcher.
    links: Vec<NetworkLinks>,
    cli: HooklineCli,
    logs: PathBuf,
    ongoing: Option<OngoingFault>,
    /// The owners of partitions before an outage.
    owners: Option<Owners>,
    /// The database's content before a failover.
    copied: Option<DatabaseCopy>,
    /// How far the database's clock is ahead for good.
    ahead: i64,
    victim: AbuseTarget,
    abusers: JoinSet<()>,
    // After the processes and the servers: they write there.
    disk: Option<Disk>,
}

impl System {
    /// Starts a deployment with everything in `folder` and waits until it is ready.
    pub(crate) async fn start(plan: Plan, folder: &Path) -> anyhow::Result<Self> {
        let Plan {
            scenario, length, ..
        } = plan;
        let mode = scenario.mode();
        let mut disk = match scenario {
            Scenario::FullDisk => {
                let disk = SmallDisk::mount(&folder.join("disk"), SMALL)?;
                Some(Disk::OfFolder(disk))
            }
            _ => None,
        };
        let data = disk.as_ref().map_or(folder, |disk| disk.itself().folder());
        let data = data.join("data");
        let api = free_port()?;
        let mut variables: Vec<_> = owned(&SETTINGS).collect();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        set("HOOKLINE__API__LISTEN", format!("127.0.0.1:{api}"));
        let seconds = DEADLINE.as_secs().to_string();
        set("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", seconds);
        set("HOOKLINE__DISPATCHER__SLOTS", SLOTS.to_string());
        let servers = match mode {
            Mode::Standalone => None,
            Mode::Distributed => {
                let servers = Servers::start(&folder.join("servers"), scenario).await?;
                set("HOOKLINE__STORE__URL", servers.postgres()?.to_owned());
                set("HOOKLINE__BROKER__URL", servers.broker()?);
                if scenario == Scenario::Distributed {
                    disk = disk_of_database(&servers, length).await?;
                }
                Some(servers)
            }
        };
        let data = (mode == Mode::Standalone).then_some(data.as_path());
        let cli = HooklineCli::new(variables, data)?;
        if mode == Mode::Distributed {
            cli.run(&["migrate"]).await?;
        }
        let mut system = Self {
            tenants: Vec::new(),
            servers,
            problems: Vec::new(),
            refusal: RefusalSwitch::default(),
            lost: Vec::new(),
            plan,
            processes: Vec::new(),
            additional_dispatchers: Vec::new(),
            joined: 0,
            links: Vec::new(),
            cli,
            logs: folder.to_owned(),
            ongoing: None,
            owners: None,
            copied: None,
            ahead: 0,
            victim: AbuseTarget {
                port: api,
                key: String::new(),
            },
            abusers: JoinSet::new(),
            disk,
        };
        for target in scenario.targets(plan.dispatchers) {
            if server_of(target).is_none() {
                let mut process = system.new_process(target)?;
                system.connect(&mut process).await?;
                process.start()?;
                system.processes.push(process);
            }
        }
        system.wait_ready().await?;
        for organization in ORGANIZATIONS {
            system.cli.run(&["org", "create", organization]).await?;
            let key = system.cli.create_key(&["--org", organization]).await?;
            let client = ApiClient::new(&format!("http://127.0.0.1:{api}/v1"), &key);
            system.tenants.push(ChaosOrganization {
                organization,
                client,
            });
        }
        system.victim.key = system.cli.create_key(&["--org", ORGANIZATIONS[0]]).await?;
        Ok(system)
    }

    fn new_process(&self, target: Target) -> anyhow::Result<ChaosProcess> {
        let location = self.cli.location();
        let (program, args) = match target {
            Target::Serve => ("hookline", [&["serve".to_owned()], location].concat()),
            _ => (target.part(), Vec::new()),
        };
        let admin = free_port()?;
        let mut variables = self.cli.variables().to_vec();
        variables.push((
            "HOOKLINE__ADMIN__LISTEN".to_owned(),
            format!("127.0.0.1:{admin}"),
        ));
        let mut fault_points = FaultPoints::new(self.logs.join(format!("{target}.faults")))?;
        if let Some(every) = self.plan.drop_wake_ups {
            fault_points.arm(WAKE_UPS, format!("return({every})"))?;
        }
        Ok(ChaosProcess {
            target,
            program,
            args,
            variables,
            logs: self.logs.clone(),
            admin,
            fault_points,
            clock: WallClock::new(self.logs.join(format!("{target}.clock"))),
            process: None,
        })
    }

    /// A dispatcher has links of its own to its servers. The nodes of a cluster are hit themselves.
    async fn connect(&mut self, process: &mut ChaosProcess) -> anyhow::Result<()> {
        if let (Target::Dispatcher(_), Scenario::Distributed, Some(servers)) =
            (process.target, self.plan.scenario, &self.servers)
        {
            let (database, broker) = (servers.postgres()?, servers.broker()?);
            let links = NetworkLinks::start(database, &broker).await?;
            process
                .variables
                .extend(links.variables(database, &broker)?);
            self.links.push(links);
        }
        Ok(())
    }

    /// Waits until every process is ready.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        until("readiness", async || {
            for process in &mut self.processes {
                process.ensure_running()?;
                if process.readiness().await != 200 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// Fails if a process has ended by itself.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let mut all = self
            .processes
            .iter_mut()
            .chain(&mut self.additional_dispatchers);
        all.try_for_each(ChaosProcess::ensure_running)
    }

    /// Runs a command of `hookline` on this deployment.
    pub(crate) async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.cli.run(args).await
    }

    /// Ends everything and removes the servers' data.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.processes.clear();
        self.additional_dispatchers.clear();
        match &mut self.servers {
            Some(servers) => servers.clean().await,
            None => Ok(()),
        }
    }

    fn servers(&mut self) -> anyhow::Result<&mut Servers> {
        self.servers
            .as_mut()
            .context("this deployment has no servers")
    }

    fn process(&mut self, target: Target) -> anyhow::Result<&mut ChaosProcess> {
        self.processes
            .iter_mut()
            .find(|process| process.target == target)
            .with_context(|| format!("there is no {target}"))
    }

    fn each(
        &mut self,
        change: impl Fn(&mut ChaosProcess) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.processes.iter_mut().try_for_each(change)
    }

    fn each_of(
        &mut self,
        targets: &[Target],
        change: impl Fn(&mut ChaosProcess) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for &target in targets {
            change(self.process(target)?)?;
        }
        Ok(())
    }

    fn each_link(&self, targets: &[Target], change: impl Fn(&NetworkLinks)) -> anyhow::Result<()> {
        for target in targets {
            let Target::Dispatcher(number) = *target else {
                anyhow::bail!("{target} has no links");
            };
            change(self.links.get(number).context("no such dispatcher")?);
        }
        Ok(())
    }
}

fn server_of(target: Target) -> Option<DependencyServer> {
    match target {
        Target::RabbitMq => Some(DependencyServer::RabbitMq(0)),
        Target::Node(number) => Some(DependencyServer::RabbitMq(number)),
        Target::Postgres => Some(DependencyServer::Postgres),
        _ => None,
    }
}
