//! The system under test: a deployment with processes and servers that are hit and come back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Plan;
use super::abuse::{self, AbuseTarget};
use super::fault::{BacklogPoint, CHURN, ClockShift, Fault, Injection, Outage, Target};
use super::ledger::{EventName, Ledger, LostCommits, StoredRows};
use super::links::{FaultPoints, Links, WallClock};
use super::owners::Owners;
use super::process::ChaosProcess;
use super::receivers::{DEADLINE, RefusalSwitch};
use super::repeats::SLOTS;
use super::schedule::Scenario;
use super::servers::{Server, Servers};
use anyhow::Context as _;
use hookline_testkit::client::Client;
use hookline_testkit::database_faults::{DatabaseFault, OngoingFault};
use hookline_testkit::deployment::{MASTER_KEY, Mode};
use hookline_testkit::managed_process::{free_port, hookline};
use hookline_testkit::proxy::Link;
use hookline_testkit::small_disk::{Mebibytes, SMALL, SmallDisk, obstacle};
use hookline_testkit::small_tablespace::SmallTablespace;
use hookline_testkit::waiting::until;
use serde_json::Value;
use tokio::task::JoinSet;

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

/// The fault point at which the scheduler of a dispatcher hangs.
const SCHEDULER: &str = "dispatcher::turn::scheduler";

/// Within this time a process has read its file of fault points, twice.
const DISARMED_WITHIN: Duration = Duration::from_millis(300);

const HOUR: i64 = 60 * 60;

/// Longer than a working dispatcher takes to find an owner dead.
const OWNERS_WOULD_HAVE_CHANGED: Duration = Duration::from_secs(6);

/// An organization and a client with its key.
pub(crate) struct Tenant {
    pub(crate) organization: &'static str,
    pub(crate) client: Client,
}

/// A running deployment.
pub(crate) struct System {
    pub(crate) tenants: Vec<Tenant>,
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
    coming: Vec<ChaosProcess>,
    come: usize,
    /// One for each dispatcher.
    links: Vec<Links>,
    commands: Commands,
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
    // After the actors and the servers: they write there.
    disk: Option<Disk>,
}

/// The database before it was copied.
struct DatabaseCopy {
    /// Everything that was confirmed before is in the copy.
    confirmed_until: Instant,
    events: HashSet<EventName>,
}

/// A disk that can be filled.
enum Disk {
    OfFolder(SmallDisk),
    OfDatabase(SmallTablespace),
}

impl Disk {
    fn itself(&self) -> &SmallDisk {
        match self {
            Disk::OfFolder(disk) => disk,
            Disk::OfDatabase(tablespace) => tablespace.disk(),
        }
    }
}

/// How a command of `hookline` finds this deployment.
struct Commands {
    variables: Vec<(String, String)>,
    location: Vec<String>,
}

impl Commands {
    async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let location: Vec<&str> = self.location.iter().map(String::as_str).collect();
        hookline(&[args, &location].concat(), &self.variables).await
    }

    async fn key_of(&self, organization: &str) -> anyhow::Result<String> {
        let printed = self.run(&["key", "create", "--org", organization]).await?;
        let key = printed.lines().last().context("no key was printed")?;
        Ok(key.to_owned())
    }
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
        let mut variables: Vec<(String, String)> = SETTINGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        set("HOOKLINE__API__LISTEN", format!("127.0.0.1:{api}"));
        let seconds = DEADLINE.as_secs().to_string();
        set("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", seconds);
        set("HOOKLINE__DISPATCHER__SLOTS", SLOTS.to_string());
        let data = data.to_str().context("a folder that is UTF-8")?;
        let mut location = vec!["--data-dir", data];
        let servers = match mode {
            Mode::Standalone => None,
            Mode::Distributed => {
                location.clear();
                let servers = Servers::start(&folder.join("servers"), scenario).await?;
                set("HOOKLINE__STORE__URL", servers.postgres()?.to_owned());
                set("HOOKLINE__BROKER__URL", servers.broker()?);
                if scenario == Scenario::Distributed {
                    disk = disk_of_database(&servers, length).await?;
                }
                Some(servers)
            }
        };
        let commands = Commands {
            variables,
            location: location.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        if mode == Mode::Distributed {
            commands.run(&["migrate"]).await?;
        }
        let mut system = Self {
            tenants: Vec::new(),
            servers,
            problems: Vec::new(),
            refusal: RefusalSwitch::default(),
            lost: Vec::new(),
            plan,
            processes: Vec::new(),
            coming: Vec::new(),
            come: 0,
            links: Vec::new(),
            commands,
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
                system.wire(&mut process).await?;
                process.start()?;
                system.processes.push(process);
            }
        }
        system.wait_ready().await?;
        for organization in ORGANIZATIONS {
            let commands = &system.commands;
            commands.run(&["org", "create", organization]).await?;
            let key = commands.key_of(organization).await?;
            let client = Client::new(&format!("http://127.0.0.1:{api}/v1"), &key);
            system.tenants.push(Tenant {
                organization,
                client,
            });
        }
        system.victim.key = system.commands.key_of(ORGANIZATIONS[0]).await?;
        Ok(system)
    }

    fn new_process(&self, target: Target) -> anyhow::Result<ChaosProcess> {
        let Commands {
            variables,
            location,
        } = &self.commands;
        let (program, args) = match target {
            Target::Serve => ("hookline", [&["serve".to_owned()], &location[..]].concat()),
            _ => (target.part(), Vec::new()),
        };
        let admin = free_port()?;
        let mut variables = variables.clone();
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
    async fn wire(&mut self, process: &mut ChaosProcess) -> anyhow::Result<()> {
        if let (Target::Dispatcher(_), Scenario::Distributed, Some(servers)) =
            (process.target, self.plan.scenario, &self.servers)
        {
            let (database, broker) = (servers.postgres()?, servers.broker()?);
            let links = Links::start(database, &broker).await?;
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
        let mut all = self.processes.iter_mut().chain(&mut self.coming);
        all.try_for_each(ChaosProcess::ensure_running)
    }

    /// Runs a command of `hookline` on this deployment.
    pub(crate) async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.commands.run(args).await
    }

    /// Prepares a fault before it begins.
    pub(crate) async fn prepare(
        &mut self,
        injection: &Injection,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        self.ensure_running()?;
        match injection.fault {
            // A service that starts while a right is missing ends with an error. The fault is about services that run.
            Fault::Database(DatabaseFault::Revoke) => self.wait_ready().await,
            Fault::Outage(_) => {
                self.wait_ready().await?;
                self.owners = Some(self.even_owners().await?);
                Ok(())
            }
            Fault::FailOver => {
                self.wait_ready().await?;
                self.copied = Some(self.know_events(ledger).await?);
                Ok(())
            }
            // A cluster without a node bears no second loss.
            _ if matches!(injection.targets[..], [Target::Node(_)]) => {
                self.servers()?.wait_for_members().await
            }
            _ => Ok(()),
        }
    }

    /// Begins a fault.
    pub(crate) async fn inject(&mut self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, targets, .. } = injection;
        match *fault {
            Fault::FillDisk => self.fill(targets).await,
            Fault::Database(fault) => {
                let database = self.servers()?.database()?;
                self.ongoing = Some(database.begin_fault(fault).await?);
                Ok(())
            }
            Fault::Abuse(abuse) => {
                self.abusers = abuse::begin(abuse, &self.victim);
                Ok(())
            }
            Fault::DropWakeUps(every) => self.each(|process| {
                process
                    .fault_points
                    .arm(WAKE_UPS, format!("return({every})"))
            }),
            Fault::Churn => self.churn().await,
            Fault::Outage(Outage::Killed) => {
                self.inject_into_server(Fault::Kill, Server::Postgres).await
            }
            Fault::Outage(Outage::Frozen) => {
                self.inject_into_server(Fault::Freeze, Server::Postgres)
                    .await
            }
            Fault::Cut(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Cut))
            }
            Fault::Silence(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Silent))
            }
            Fault::Clock(shift) => self.shift_clock(shift, targets).await,
            Fault::Repartition(count) => {
                let count = count.to_string();
                self.hookline(&["partitions", "set", &count]).await?;
                Ok(())
            }
            Fault::HangScheduler => {
                let actions = format!("1*sleep({})", injection.away.as_millis());
                self.each_of(targets, |process| {
                    process.fault_points.arm(SCHEDULER, actions.clone())
                })
            }
            Fault::FailOver => {
                let tables = self.tables();
                self.servers()?.copy_postgres(tables.as_deref()).await?;
                // Commits from now on are lost.
                tokio::time::sleep(injection.away).await;
                Ok(())
            }
            Fault::CrashAt(point) => self.crash_at(point, targets).await,
            Fault::Kill | Fault::Freeze | Fault::LongFreeze | Fault::Stop => {
                for &target in targets {
                    let what = || format!("{fault} {target}");
                    match server_of(target) {
                        Some(server) => self
                            .inject_into_server(*fault, server)
                            .await
                            .with_context(what)?,
                        None => self
                            .process(target)?
                            .inject(*fault)
                            .await
                            .with_context(what)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends a fault.
    pub(crate) async fn restore(&mut self, injection: &Injection) -> anyhow::Result<()> {
        let Injection { fault, targets, .. } = injection;
        match *fault {
            Fault::FillDisk => self.free(targets).await,
            Fault::Database(_) => {
                if let Some(ongoing) = self.ongoing.take() {
                    ongoing.end().await?;
                }
                self.wait_ready().await
            }
            Fault::Abuse(_) => {
                self.abusers = JoinSet::new();
                self.wait_ready().await
            }
            Fault::DropWakeUps(_) => {
                let always = self.plan.drop_wake_ups;
                self.each(|process| match always {
                    Some(every) => process
                        .fault_points
                        .arm(WAKE_UPS, format!("return({every})")),
                    None => process.fault_points.disarm(WAKE_UPS),
                })
            }
            Fault::Churn | Fault::Repartition(_) => Ok(()),
            Fault::Outage(Outage::Killed) => self.servers()?.start_again().await,
            Fault::Outage(Outage::Frozen) => self.servers()?.signal(Server::Postgres, "CONT").await,
            Fault::Cut(dependency) | Fault::Silence(dependency) => {
                self.each_link(targets, |links| links.set(dependency, Link::Up))
            }
            Fault::Clock(shift) => self.restore_clock(shift, targets),
            Fault::HangScheduler => {
                self.each_of(targets, |process| process.fault_points.disarm(SCHEDULER))
            }
            Fault::FailOver => self.fail_over().await,
            Fault::CrashAt(point) => self.restart_after(point, targets).await,
            Fault::Freeze | Fault::LongFreeze => {
                // Services first: they wait for their servers.
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.process(target)?.process()?.signal("CONT").await?;
                }
                for server in targets.iter().filter_map(|&target| server_of(target)) {
                    self.servers()?.signal(server, "CONT").await?;
                }
                Ok(())
            }
            Fault::Kill | Fault::Stop => {
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.process(target)?.start()?;
                }
                match targets.iter().any(|&target| server_of(target).is_some()) {
                    true => self.servers()?.start_again().await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Waits until all events confirmed so far are in the database, and returns the content of the database.
    async fn know_events(&self, ledger: &Ledger) -> anyhow::Result<DatabaseCopy> {
        let confirmed_until = Instant::now();
        let confirmed = ledger.confirmed_events();
        let events = until("the confirmed events in the database", async || {
            let stored = self.stored().await?;
            ledger.mark_gone(&self.lost, &stored);
            let is_there = |name| stored.events.contains(name) || ledger.is_gone(name);
            Ok(confirmed.iter().all(is_there).then_some(stored.events))
        })
        .await?;
        Ok(DatabaseCopy {
            confirmed_until,
            events,
        })
    }

    /// The database goes on from its copy.
    async fn fail_over(&mut self) -> anyhow::Result<()> {
        let copied = self.copied.take().context("nothing was copied")?;
        let tables = self.tables();
        // Later events are committed to the copy.
        let killed = self.servers()?.fall_back_to_copy(tables.as_deref()).await?;
        self.servers()?.start_again().await?;
        let back = Instant::now();
        let stored = self.stored().await?.events;
        let missing = copied.events.difference(&stored).count();
        if missing > 0 {
            self.problems.push(format!(
                "a failover lost {missing} events that were committed before its copy was made"
            ));
        }
        self.lost.push(LostCommits {
            from: copied.confirmed_until,
            until: killed,
            back,
        });
        Ok(())
    }

    /// Where the tables are that a disk can be too small for.
    fn tables(&self) -> Option<PathBuf> {
        match &self.disk {
            Some(Disk::OfDatabase(tablespace)) => Some(tablespace.disk().folder().join("tables")),
            _ => None,
        }
    }

    /// The content of a distributed deployment's database.
    pub(crate) async fn stored(&self) -> anyhow::Result<StoredRows> {
        let servers = self.servers.as_ref().context("no database")?;
        let database = servers.database()?;
        let events = "SELECT organization_id || ' ' || event_id FROM events";
        let subscriptions = "SELECT id || ' ' || url FROM subscriptions WHERE deleted_at IS NULL";
        let events = database.sql(events).await?;
        let subscriptions = database.sql(subscriptions).await?;
        let pairs = |text: String| -> Vec<(String, String)> {
            let pairs = text.lines().filter_map(|line| line.split_once(' '));
            pairs
                .map(|(one, other)| (one.to_owned(), other.to_owned()))
                .collect()
        };
        let subscriptions = pairs(subscriptions).into_iter();
        Ok(StoredRows {
            events: pairs(events).into_iter().collect(),
            subscriptions: subscriptions
                .map(|(id, url)| Ok((id.parse()?, url)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Waits until receivers that refuse everything have made backlog, and a process has ended at this point.
    async fn crash_at(&mut self, point: BacklogPoint, targets: &[Target]) -> anyhow::Result<()> {
        self.refusal.set(true);
        if point == BacklogPoint::Read {
            until("backlog", async || {
                Ok((self.count_backlog().await? > 0).then_some(()))
            })
            .await?;
        }
        self.each_of(targets, |process| {
            process.fault_points.arm(point.name(), "return".to_owned())
        })?;
        if point == BacklogPoint::Read {
            // It is read when its receivers take it.
            self.refusal.set(false);
        }
        let name = point.name();
        until(&format!("the end of a process at {name}"), async || {
            let mut processes = self.processes.iter_mut();
            let ended =
                processes.any(|process| targets.contains(&process.target) && process.has_ended());
            Ok(ended.then_some(()))
        })
        .await
    }

    async fn restart_after(
        &mut self,
        point: BacklogPoint,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        self.refusal.set(false);
        self.each_of(targets, |process| process.fault_points.disarm(point.name()))?;
        // A process that has not read this yet may still end.
        tokio::time::sleep(DISARMED_WITHIN).await;
        self.each_of(targets, |process| match process.has_ended() {
            true => process.start(),
            false => Ok(()),
        })
    }

    /// How much backlog all partitions have.
    async fn count_backlog(&self) -> anyhow::Result<u64> {
        let printed: Value =
            serde_json::from_str(&self.hookline(&["partitions", "--json"]).await?)?;
        let partitions = printed["partitions"].as_array().context("no partitions")?;
        Ok(partitions
            .iter()
            .filter_map(|one| one["backlog"].as_u64())
            .sum())
    }

    /// Checks the effects of a fault, once everything is back.
    pub(crate) async fn judge(&mut self, injection: &Injection) -> anyhow::Result<()> {
        if injection.fault == Fault::FailOver {
            // No process was started anew.
            self.wait_ready().await?;
            self.even_owners().await?;
            return Ok(());
        }
        let Some(before) = self.owners.take() else {
            return Ok(());
        };
        self.wait_ready().await?;
        tokio::time::sleep(OWNERS_WOULD_HAVE_CHANGED).await;
        let after = self.read_owners().await?;
        let changed = after.map_or(usize::MAX, |after| before.changed(&after));
        if changed > 0 {
            self.problems.push(format!(
                "{changed} partitions changed their owner in an outage of the database"
            ));
        }
        Ok(())
    }

    async fn read_owners(&self) -> anyhow::Result<Option<Owners>> {
        Owners::read(&self.hookline(&["partitions", "--json"]).await?)
    }

    /// Waits until the dispatchers share the partitions evenly: none is on the move then.
    async fn even_owners(&self) -> anyhow::Result<Owners> {
        let dispatchers = self.plan.dispatchers;
        until("even shares of partitions", async || {
            let owners = self.read_owners().await?;
            Ok(owners.filter(|owners| owners.are_even(dispatchers)))
        })
        .await
    }

    /// Further dispatchers beside those that stay.
    async fn churn(&mut self) -> anyhow::Result<()> {
        let mut ended = 0;
        for step in 0..CHURN.at_once + CHURN.replaced {
            if step >= CHURN.at_once {
                self.end_oldest(ended).await?;
                ended += 1;
            }
            self.come += 1;
            let mut process =
                self.new_process(Target::Dispatcher(self.plan.dispatchers + self.come))?;
            process.start()?;
            self.coming.push(process);
            tokio::time::sleep(CHURN.every).await;
            self.ensure_running()?;
        }
        while !self.coming.is_empty() {
            self.end_oldest(ended).await?;
            ended += 1;
        }
        Ok(())
    }

    async fn end_oldest(&mut self, ended: usize) -> anyhow::Result<()> {
        let fault = match ended % 2 {
            0 => Fault::Kill,
            _ => Fault::Stop,
        };
        self.coming.remove(0).inject(fault).await
    }

    async fn shift_clock(&mut self, shift: ClockShift, targets: &[Target]) -> anyhow::Result<()> {
        let seconds = match shift {
            ClockShift::Ahead => HOUR,
            ClockShift::Back => -HOUR,
        };
        let library = self.servers()?.faketime();
        for &target in targets {
            match target {
                Target::Postgres => {
                    let ahead = self.ahead;
                    if let Some(clock) = self.servers()?.postgres_clock() {
                        clock.set(ahead + seconds)?;
                    }
                }
                _ => {
                    let process = self.process(target)?;
                    process.inject(Fault::Clock(shift)).await?;
                    process.clock.set(seconds)?;
                    let library = library.as_deref();
                    let variables = library.map(|library| process.clock.variables(library));
                    process.start_with(variables.as_ref().map_or(&[], |some| &some[..]))?;
                }
            }
        }
        Ok(())
    }

    /// Sets a clock right again, except a database's clock that was set ahead. If that clock went back,
    /// deliveries with a due time from the wrong clock would come an hour late.
    fn restore_clock(&mut self, shift: ClockShift, targets: &[Target]) -> anyhow::Result<()> {
        for &target in targets {
            match target {
                Target::Postgres => {
                    if shift == ClockShift::Ahead {
                        self.ahead += HOUR;
                    }
                    let ahead = self.ahead;
                    if let Some(clock) = self.servers()?.postgres_clock() {
                        clock.set(ahead)?;
                    }
                }
                _ => self.process(target)?.clock.set(0)?,
            }
        }
        Ok(())
    }

    /// A deployment with a full disk must say that it is not ready.
    async fn fill(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let Some(disk) = &self.disk else {
            // Said when the deployment was made.
            return Ok(());
        };
        disk.itself().fill()?;
        let processes = &self.processes;
        until("a deployment that says that it is not ready", async || {
            for process in processes {
                if process.readiness().await == 503 {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await?;
        for target in targets.iter().filter(|target| **target != Target::Disk) {
            self.process(*target)?.inject(Fault::FillDisk).await?;
        }
        Ok(())
    }

    /// It goes on by itself once there is room.
    async fn free(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let Some(disk) = &self.disk else {
            return Ok(());
        };
        disk.itself().free()?;
        for target in targets.iter().filter(|target| **target != Target::Disk) {
            self.process(*target)?.start()?;
        }
        self.wait_ready().await
    }

    /// Ends everything and removes the servers' data.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.processes.clear();
        self.coming.clear();
        match &mut self.servers {
            Some(servers) => servers.clean().await,
            None => Ok(()),
        }
    }

    async fn inject_into_server(&mut self, fault: Fault, server: Server) -> anyhow::Result<()> {
        let servers = self.servers()?;
        match fault {
            Fault::Freeze | Fault::LongFreeze => servers.signal(server, "STOP").await,
            Fault::Stop => servers.stop(server).await,
            _ => {
                servers.signal(server, "KILL").await?;
                servers.wait_for_end(server).await
            }
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

    fn each_link(&self, targets: &[Target], change: impl Fn(&Links)) -> anyhow::Result<()> {
        for target in targets {
            let Target::Dispatcher(number) = *target else {
                anyhow::bail!("{target} has no links");
            };
            change(self.links.get(number).context("no such dispatcher")?);
        }
        Ok(())
    }
}

/// A run writes up to 8 MiB each minute; the rest is what the filler takes.
async fn disk_of_database(servers: &Servers, length: Duration) -> anyhow::Result<Option<Disk>> {
    if let Some(why) = obstacle() {
        println!("chaos: a full disk of the database was NOT TRIED: {why}");
        return Ok(None);
    }
    let minutes = u32::try_from(length.as_secs() / 60)?.saturating_add(1);
    let size = Mebibytes(64 + minutes.saturating_mul(16));
    let database = servers.database()?;
    let server = database.maintenance()?;
    let small = SmallTablespace::create(&server, database.name(), size).await?;
    Ok(Some(Disk::OfDatabase(small)))
}

fn server_of(target: Target) -> Option<Server> {
    match target {
        Target::RabbitMq => Some(Server::RabbitMq(0)),
        Target::Node(number) => Some(Server::RabbitMq(number)),
        Target::Postgres => Some(Server::Postgres),
        _ => None,
    }
}
