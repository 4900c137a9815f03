//! The stage of a run: a home with processes and servers that are hit and come back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Plan;
use super::abuse::{self, Victim};
use super::fault::{Act, Away, BacklogPoint, Blow, COME_AND_GO, Shift, Target};
use super::ledger::{EventName, Ledger, Lost, Stored};
use super::links::{Faults, WallClock, Wires};
use super::owners::Owners;
use super::process::Actor;
use super::receivers::{DEADLINE, Refusal};
use super::repeats::SLOTS;
use super::schedule::Scene;
use super::servers::{Server, Servers};
use anyhow::Context as _;
use hookline_testkit::client::Client;
use hookline_testkit::database_faults::{Fault, Ongoing};
use hookline_testkit::deployment::{Kind, MASTER_KEY};
use hookline_testkit::managed_process::{free_port, hookline};
use hookline_testkit::proxy::Wire;
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

/// A running home.
pub(crate) struct Stage {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) servers: Option<Servers>,
    /// The failed checks, besides those of the ledger.
    pub(crate) problems: Vec<String>,
    /// Makes the receivers refuse requests while it is on.
    pub(crate) refusal: Refusal,
    /// The commits that failovers have lost.
    pub(crate) lost: Vec<Lost>,
    plan: Plan,
    actors: Vec<Actor>,
    /// Further dispatchers, in the order in which they started.
    coming: Vec<Actor>,
    come: usize,
    /// One for each dispatcher.
    wires: Vec<Wires>,
    commands: Commands,
    logs: PathBuf,
    ongoing: Option<Ongoing>,
    /// The owners of partitions before an outage.
    owners: Option<Owners>,
    /// The database's content before a failover.
    copied: Option<Copied>,
    /// How far the database's clock is ahead for good.
    ahead: i64,
    victim: Victim,
    abusers: JoinSet<()>,
    // After the actors and the servers: they write there.
    disk: Option<Disk>,
}

/// The database before it was copied.
struct Copied {
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

/// How a command of `hookline` finds this home.
struct Commands {
    variables: Vec<(String, String)>,
    place: Vec<String>,
}

impl Commands {
    async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let place: Vec<&str> = self.place.iter().map(String::as_str).collect();
        hookline(&[args, &place].concat(), &self.variables).await
    }

    async fn key_of(&self, organization: &str) -> anyhow::Result<String> {
        let printed = self.run(&["key", "create", "--org", organization]).await?;
        let key = printed.lines().last().context("no key was printed")?;
        Ok(key.to_owned())
    }
}

impl Stage {
    /// Starts a home with everything in `folder` and waits until it is ready.
    pub(crate) async fn set(plan: Plan, folder: &Path) -> anyhow::Result<Self> {
        let Plan { scene, length, .. } = plan;
        let kind = scene.kind();
        let mut disk = match scene {
            Scene::FullDisk => {
                let disk = SmallDisk::make(&folder.join("disk"), SMALL)?;
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
        let mut place = vec!["--data-dir", data];
        let servers = match kind {
            Kind::Embedded => None,
            Kind::Distributed => {
                place.clear();
                let servers = Servers::start(&folder.join("servers"), scene).await?;
                set("HOOKLINE__STORE__URL", servers.postgres()?.to_owned());
                set("HOOKLINE__BROKER__URL", servers.broker()?);
                if scene == Scene::Distributed {
                    disk = disk_of_database(&servers, length).await?;
                }
                Some(servers)
            }
        };
        let commands = Commands {
            variables,
            place: place.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        if kind == Kind::Distributed {
            commands.run(&["migrate"]).await?;
        }
        let mut stage = Self {
            tenants: Vec::new(),
            servers,
            problems: Vec::new(),
            refusal: Refusal::default(),
            lost: Vec::new(),
            plan,
            actors: Vec::new(),
            coming: Vec::new(),
            come: 0,
            wires: Vec::new(),
            commands,
            logs: folder.to_owned(),
            ongoing: None,
            owners: None,
            copied: None,
            ahead: 0,
            victim: Victim {
                port: api,
                key: String::new(),
            },
            abusers: JoinSet::new(),
            disk,
        };
        for target in scene.targets(plan.dispatchers) {
            if server_of(target).is_none() {
                let mut actor = stage.make_actor(target)?;
                stage.wire(&mut actor).await?;
                actor.start()?;
                stage.actors.push(actor);
            }
        }
        stage.wait_ready().await?;
        for organization in ORGANIZATIONS {
            let commands = &stage.commands;
            commands.run(&["org", "create", organization]).await?;
            let key = commands.key_of(organization).await?;
            let client = Client::new(&format!("http://127.0.0.1:{api}/v1"), &key);
            stage.tenants.push(Tenant {
                organization,
                client,
            });
        }
        stage.victim.key = stage.commands.key_of(ORGANIZATIONS[0]).await?;
        Ok(stage)
    }

    fn make_actor(&self, target: Target) -> anyhow::Result<Actor> {
        let Commands { variables, place } = &self.commands;
        let (program, args) = match target {
            Target::Serve => ("hookline", [&["serve".to_owned()], &place[..]].concat()),
            _ => (target.part(), Vec::new()),
        };
        let admin = free_port()?;
        let mut variables = variables.clone();
        variables.push((
            "HOOKLINE__ADMIN__LISTEN".to_owned(),
            format!("127.0.0.1:{admin}"),
        ));
        let mut faults = Faults::new(self.logs.join(format!("{target}.faults")))?;
        if let Some(every) = self.plan.drop_wake_ups {
            faults.arm(WAKE_UPS, format!("return({every})"))?;
        }
        Ok(Actor {
            target,
            program,
            args,
            variables,
            logs: self.logs.clone(),
            admin,
            faults,
            clock: WallClock::new(self.logs.join(format!("{target}.clock"))),
            process: None,
        })
    }

    /// A dispatcher has wires of its own to its servers. The nodes of a cluster are hit themselves.
    async fn wire(&mut self, actor: &mut Actor) -> anyhow::Result<()> {
        if let (Target::Dispatcher(_), Scene::Distributed, Some(servers)) =
            (actor.target, self.plan.scene, &self.servers)
        {
            let (database, broker) = (servers.postgres()?, servers.broker()?);
            let wires = Wires::before(database, &broker).await?;
            actor.variables.extend(wires.variables(database, &broker)?);
            self.wires.push(wires);
        }
        Ok(())
    }

    /// Waits until every process is ready.
    pub(crate) async fn wait_ready(&mut self) -> anyhow::Result<()> {
        until("readiness", async || {
            for actor in &mut self.actors {
                actor.ensure_running()?;
                if actor.readiness().await != 200 {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await
    }

    /// Fails if a process has ended by itself.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        let mut all = self.actors.iter_mut().chain(&mut self.coming);
        all.try_for_each(Actor::ensure_running)
    }

    /// Runs a command of `hookline` on this home.
    pub(crate) async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.commands.run(args).await
    }

    /// Prepares an act before it begins.
    pub(crate) async fn prepare(&mut self, act: &Act, ledger: &Ledger) -> anyhow::Result<()> {
        self.ensure_running()?;
        match act.blow {
            // A service that starts while a right is missing ends with an error. The act is about services that run.
            Blow::Raise(Fault::Revoke) => self.wait_ready().await,
            Blow::Outage(_) => {
                self.wait_ready().await?;
                self.owners = Some(self.even_owners().await?);
                Ok(())
            }
            Blow::FailOver => {
                self.wait_ready().await?;
                self.copied = Some(self.know_events(ledger).await?);
                Ok(())
            }
            // A cluster without a node bears no second loss.
            _ if matches!(act.targets[..], [Target::Node(_)]) => {
                self.servers()?.wait_for_members().await
            }
            _ => Ok(()),
        }
    }

    /// Begins an act.
    pub(crate) async fn hit(&mut self, act: &Act) -> anyhow::Result<()> {
        let Act { blow, targets, .. } = act;
        match *blow {
            Blow::Fill => self.fill(targets).await,
            Blow::Raise(fault) => {
                let database = self.servers()?.database()?;
                self.ongoing = Some(database.begin(fault).await?);
                Ok(())
            }
            Blow::Abuse(abuse) => {
                self.abusers = abuse::begin(abuse, &self.victim);
                Ok(())
            }
            Blow::DropWakeUps(every) => {
                self.each(|actor| actor.faults.arm(WAKE_UPS, format!("return({every})")))
            }
            Blow::ComeAndGo => self.come_and_go().await,
            Blow::Outage(Away::Killed) => self.hit_server(Blow::Kill, Server::Postgres).await,
            Blow::Outage(Away::Frozen) => self.hit_server(Blow::Freeze, Server::Postgres).await,
            Blow::Cut(peer) => self.each_wire(targets, |wires| wires.set(peer, Wire::Cut)),
            Blow::Silence(peer) => self.each_wire(targets, |wires| wires.set(peer, Wire::Silent)),
            Blow::Clock(shift) => self.set_clock(shift, targets).await,
            Blow::Divide(count) => {
                let count = count.to_string();
                self.hookline(&["partitions", "set", &count]).await?;
                Ok(())
            }
            Blow::Hang => {
                let actions = format!("1*sleep({})", act.away.as_millis());
                self.each_of(targets, |actor| {
                    actor.faults.arm(SCHEDULER, actions.clone())
                })
            }
            Blow::FailOver => {
                let tables = self.tables();
                self.servers()?.copy_postgres(tables.as_deref()).await?;
                // Commits from now on are lost.
                tokio::time::sleep(act.away).await;
                Ok(())
            }
            Blow::EndAt(point) => self.end_at(point, targets).await,
            Blow::Kill | Blow::Freeze | Blow::LongFreeze | Blow::Stop => {
                for &target in targets {
                    let what = || format!("{blow} {target}");
                    match server_of(target) {
                        Some(server) => self.hit_server(*blow, server).await.with_context(what)?,
                        None => self.actor(target)?.hit(*blow).await.with_context(what)?,
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends an act.
    pub(crate) async fn bring_back(&mut self, act: &Act) -> anyhow::Result<()> {
        let Act { blow, targets, .. } = act;
        match *blow {
            Blow::Fill => self.free(targets).await,
            Blow::Raise(_) => {
                if let Some(ongoing) = self.ongoing.take() {
                    ongoing.end().await?;
                }
                self.wait_ready().await
            }
            Blow::Abuse(_) => {
                self.abusers = JoinSet::new();
                self.wait_ready().await
            }
            Blow::DropWakeUps(_) => {
                let always = self.plan.drop_wake_ups;
                self.each(|actor| match always {
                    Some(every) => actor.faults.arm(WAKE_UPS, format!("return({every})")),
                    None => actor.faults.disarm(WAKE_UPS),
                })
            }
            Blow::ComeAndGo | Blow::Divide(_) => Ok(()),
            Blow::Outage(Away::Killed) => self.servers()?.start_again().await,
            Blow::Outage(Away::Frozen) => self.servers()?.signal(Server::Postgres, "CONT").await,
            Blow::Cut(peer) | Blow::Silence(peer) => {
                self.each_wire(targets, |wires| wires.set(peer, Wire::Whole))
            }
            Blow::Clock(shift) => self.end_of_clock(shift, targets),
            Blow::Hang => self.each_of(targets, |actor| actor.faults.disarm(SCHEDULER)),
            Blow::FailOver => self.fail_over().await,
            Blow::EndAt(point) => self.go_on_after(point, targets).await,
            Blow::Freeze | Blow::LongFreeze => {
                // Services first: they wait for their servers.
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.actor(target)?.process()?.signal("CONT").await?;
                }
                for server in targets.iter().filter_map(|&target| server_of(target)) {
                    self.servers()?.signal(server, "CONT").await?;
                }
                Ok(())
            }
            Blow::Kill | Blow::Stop => {
                for &target in targets
                    .iter()
                    .filter(|target| server_of(**target).is_none())
                {
                    self.actor(target)?.start()?;
                }
                match targets.iter().any(|&target| server_of(target).is_some()) {
                    true => self.servers()?.start_again().await,
                    false => Ok(()),
                }
            }
        }
    }

    /// Waits until all events confirmed so far are in the database, and returns the content of the database.
    async fn know_events(&self, ledger: &Ledger) -> anyhow::Result<Copied> {
        let confirmed_until = Instant::now();
        let confirmed = ledger.confirmed_events();
        let events = until("the confirmed events in the database", async || {
            let stored = self.stored().await?;
            ledger.mark_gone(&self.lost, &stored);
            let is_there = |name| stored.events.contains(name) || ledger.is_gone(name);
            Ok(confirmed.iter().all(is_there).then_some(stored.events))
        })
        .await?;
        Ok(Copied {
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
        self.lost.push(Lost {
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

    /// The content of a distributed home's database.
    pub(crate) async fn stored(&self) -> anyhow::Result<Stored> {
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
        Ok(Stored {
            events: pairs(events).into_iter().collect(),
            subscriptions: subscriptions
                .map(|(id, url)| Ok((id.parse()?, url)))
                .collect::<anyhow::Result<_>>()?,
        })
    }

    /// Waits until receivers that refuse everything have made backlog, and a process has ended at this point.
    async fn end_at(&mut self, point: BacklogPoint, targets: &[Target]) -> anyhow::Result<()> {
        self.refusal.set(true);
        if point == BacklogPoint::Read {
            until("backlog", async || {
                Ok((self.count_backlog().await? > 0).then_some(()))
            })
            .await?;
        }
        self.each_of(targets, |actor| {
            actor.faults.arm(point.name(), "return".to_owned())
        })?;
        if point == BacklogPoint::Read {
            // It is read when its receivers take it.
            self.refusal.set(false);
        }
        let name = point.name();
        until(&format!("the end of a process at {name}"), async || {
            let mut actors = self.actors.iter_mut();
            let ended = actors.any(|actor| targets.contains(&actor.target) && actor.has_ended());
            Ok(ended.then_some(()))
        })
        .await
    }

    async fn go_on_after(&mut self, point: BacklogPoint, targets: &[Target]) -> anyhow::Result<()> {
        self.refusal.set(false);
        self.each_of(targets, |actor| actor.faults.disarm(point.name()))?;
        // A process that has not read this yet may still end.
        tokio::time::sleep(DISARMED_WITHIN).await;
        self.each_of(targets, |actor| match actor.has_ended() {
            true => actor.start(),
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

    /// Checks the effects of an act, once everything is back.
    pub(crate) async fn judge(&mut self, act: &Act) -> anyhow::Result<()> {
        if act.blow == Blow::FailOver {
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
    async fn come_and_go(&mut self) -> anyhow::Result<()> {
        let mut ended = 0;
        for step in 0..COME_AND_GO.at_once + COME_AND_GO.replaced {
            if step >= COME_AND_GO.at_once {
                self.end_oldest(ended).await?;
                ended += 1;
            }
            self.come += 1;
            let mut actor =
                self.make_actor(Target::Dispatcher(self.plan.dispatchers + self.come))?;
            actor.start()?;
            self.coming.push(actor);
            tokio::time::sleep(COME_AND_GO.every).await;
            self.ensure_running()?;
        }
        while !self.coming.is_empty() {
            self.end_oldest(ended).await?;
            ended += 1;
        }
        Ok(())
    }

    async fn end_oldest(&mut self, ended: usize) -> anyhow::Result<()> {
        let blow = match ended % 2 {
            0 => Blow::Kill,
            _ => Blow::Stop,
        };
        self.coming.remove(0).hit(blow).await
    }

    async fn set_clock(&mut self, shift: Shift, targets: &[Target]) -> anyhow::Result<()> {
        let seconds = match shift {
            Shift::Ahead => HOUR,
            Shift::Back => -HOUR,
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
                    let actor = self.actor(target)?;
                    actor.hit(Blow::Clock(shift)).await?;
                    actor.clock.set(seconds)?;
                    let library = library.as_deref();
                    let variables = library.map(|library| actor.clock.variables(library));
                    actor.start_with(variables.as_ref().map_or(&[], |some| &some[..]))?;
                }
            }
        }
        Ok(())
    }

    /// Sets a clock right again, except a database's clock that was set ahead. If that clock went back,
    /// deliveries with a due time from the wrong clock would come an hour late.
    fn end_of_clock(&mut self, shift: Shift, targets: &[Target]) -> anyhow::Result<()> {
        for &target in targets {
            match target {
                Target::Postgres => {
                    if shift == Shift::Ahead {
                        self.ahead += HOUR;
                    }
                    let ahead = self.ahead;
                    if let Some(clock) = self.servers()?.postgres_clock() {
                        clock.set(ahead)?;
                    }
                }
                _ => self.actor(target)?.clock.set(0)?,
            }
        }
        Ok(())
    }

    /// A home with a full disk must say that it is not ready.
    async fn fill(&mut self, targets: &[Target]) -> anyhow::Result<()> {
        let Some(disk) = &self.disk else {
            // Said when the home was made.
            return Ok(());
        };
        disk.itself().fill()?;
        let actors = &self.actors;
        until("a home that says that it is not ready", async || {
            for actor in actors {
                if actor.readiness().await == 503 {
                    return Ok(Some(()));
                }
            }
            Ok(None)
        })
        .await?;
        for target in targets.iter().filter(|target| **target != Target::Disk) {
            self.actor(*target)?.hit(Blow::Fill).await?;
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
            self.actor(*target)?.start()?;
        }
        self.wait_ready().await
    }

    /// Ends everything and removes the servers' data.
    pub(crate) async fn end(&mut self) -> anyhow::Result<()> {
        self.actors.clear();
        self.coming.clear();
        match &mut self.servers {
            Some(servers) => servers.clean().await,
            None => Ok(()),
        }
    }

    async fn hit_server(&mut self, blow: Blow, server: Server) -> anyhow::Result<()> {
        let servers = self.servers()?;
        match blow {
            Blow::Freeze | Blow::LongFreeze => servers.signal(server, "STOP").await,
            Blow::Stop => servers.stop(server).await,
            _ => {
                servers.signal(server, "KILL").await?;
                servers.wait_for_end(server).await
            }
        }
    }

    fn servers(&mut self) -> anyhow::Result<&mut Servers> {
        self.servers.as_mut().context("this home has no servers")
    }

    fn actor(&mut self, target: Target) -> anyhow::Result<&mut Actor> {
        self.actors
            .iter_mut()
            .find(|actor| actor.target == target)
            .with_context(|| format!("there is no {target}"))
    }

    fn each(&mut self, change: impl Fn(&mut Actor) -> anyhow::Result<()>) -> anyhow::Result<()> {
        self.actors.iter_mut().try_for_each(change)
    }

    fn each_of(
        &mut self,
        targets: &[Target],
        change: impl Fn(&mut Actor) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for &target in targets {
            change(self.actor(target)?)?;
        }
        Ok(())
    }

    fn each_wire(&self, targets: &[Target], change: impl Fn(&Wires)) -> anyhow::Result<()> {
        for target in targets {
            let Target::Dispatcher(number) = *target else {
                anyhow::bail!("{target} has no wires");
            };
            change(self.wires.get(number).context("no such dispatcher")?);
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
    let small = SmallTablespace::of(&server, database.name(), size).await?;
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
