//! What a run is played on: a home whose processes, and servers, are hit and come back.

use std::path::Path;
use std::time::Duration;

use super::Plan;
use super::abuse::{self, Victim};
use super::actor::Actor;
use super::disk::{Mebibytes, SMALL, SmallDisk, obstacle};
use super::receivers::DEADLINE;
use super::schedule::{Blow, Scene, Target};
use super::servers::{Server, Servers};
use crate::client::Client;
use crate::database_faults::{Fault, Ongoing};
use crate::home::{Kind, MASTER_KEY};
use crate::process::{free_port, hookline};
use crate::small_tablespace::SmallTablespace;
use crate::waiting::until;
use anyhow::Context as _;
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
    // Who is killed every few seconds may have one request in hand each time, which is no poison.
    ("HOOKLINE__POISON__GIVE_UP_AFTER", "20"),
    ("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "120"),
    ("HOOKLINE__LOG__LEVEL", "info"),
];

/// An organization and a client with its key.
pub(crate) struct Tenant {
    pub(crate) organization: &'static str,
    pub(crate) client: Client,
}

/// A running home.
pub(crate) struct Stage {
    pub(crate) tenants: Vec<Tenant>,
    pub(crate) servers: Option<Servers>,
    actors: Vec<Actor>,
    commands: Commands,
    ongoing: Option<Ongoing>,
    victim: Victim,
    abusers: JoinSet<()>,
    // After the actors and the servers: they write there.
    disk: Option<Disk>,
}

/// What can be filled.
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
        let data = data.to_str().context("a folder that is UTF-8")?;
        let mut place = vec!["--data-dir", data];
        let servers = match kind {
            Kind::Embedded => None,
            Kind::Distributed => {
                place.clear();
                let servers = Servers::start(&folder.join("servers")).await?;
                set("HOOKLINE__STORE__URL", servers.postgres()?.to_owned());
                set("HOOKLINE__BROKER__URL", servers.amqp()?.to_owned());
                disk = disk_of_database(&servers, length).await?;
                Some(servers)
            }
        };
        let commands = Commands {
            variables: variables.clone(),
            place: place.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        if kind == Kind::Distributed {
            commands.run(&["migrate"]).await?;
        }
        let mut actors = Vec::new();
        for &target in Target::all(kind) {
            let program = match target {
                Target::RabbitMq | Target::Postgres | Target::Disk => continue,
                Target::Serve => "hookline",
                _ => target.part(),
            };
            let args = match target {
                Target::Serve => [&["serve"], &place[..]].concat(),
                _ => Vec::new(),
            };
            let admin = free_port()?;
            let mut variables = variables.clone();
            variables.push((
                "HOOKLINE__ADMIN__LISTEN".to_owned(),
                format!("127.0.0.1:{admin}"),
            ));
            actors.push(Actor {
                target,
                program,
                args: args.into_iter().map(str::to_owned).collect(),
                variables,
                logs: folder.to_owned(),
                admin,
                process: None,
            });
        }
        let mut stage = Self {
            tenants: Vec::new(),
            servers,
            actors,
            commands,
            ongoing: None,
            victim: Victim {
                port: api,
                key: String::new(),
            },
            abusers: JoinSet::new(),
            disk,
        };
        for actor in &mut stage.actors {
            actor.start()?;
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

    /// No process has ended that nobody has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        self.actors.iter_mut().try_for_each(Actor::ensure_running)
    }

    /// Runs a command of `hookline` on this home.
    pub(crate) async fn hookline(&self, args: &[&str]) -> anyhow::Result<String> {
        self.commands.run(args).await
    }

    pub(crate) async fn hit(&mut self, blow: Blow, targets: &[Target]) -> anyhow::Result<()> {
        self.ensure_running()?;
        match blow {
            Blow::Fill => return self.fill(targets).await,
            Blow::Raise(fault) => {
                // A service that starts while a right is missing ends with an error. The act is about services that run.
                if matches!(fault, Fault::Revoke) {
                    self.wait_ready().await?;
                }
                let database = self.servers()?.database()?;
                self.ongoing = Some(database.begin(fault).await?);
                return Ok(());
            }
            Blow::Abuse(abuse) => {
                self.abusers = abuse::begin(abuse, &self.victim);
                return Ok(());
            }
            Blow::Kill | Blow::Freeze | Blow::Stop => {}
        }
        for &target in targets {
            let what = || format!("{blow} {target}");
            match server_of(target) {
                Some(server) => self.hit_server(blow, server).await.with_context(what)?,
                None => self.actor(target)?.hit(blow).await.with_context(what)?,
            }
        }
        Ok(())
    }

    pub(crate) async fn bring_back(
        &mut self,
        blow: Blow,
        targets: &[Target],
    ) -> anyhow::Result<()> {
        if blow == Blow::Fill {
            return self.free(targets).await;
        }
        if let Some(ongoing) = self.ongoing.take() {
            ongoing.end().await?;
            return self.wait_ready().await;
        }
        if matches!(blow, Blow::Abuse(_)) {
            self.abusers = JoinSet::new();
            return self.wait_ready().await;
        }
        // Services first: they wait for their servers.
        for &target in targets
            .iter()
            .filter(|target| server_of(**target).is_none())
        {
            let actor = self.actor(target)?;
            match blow {
                Blow::Freeze => actor.process()?.signal("CONT").await?,
                Blow::Kill | Blow::Stop | Blow::Fill | Blow::Raise(_) | Blow::Abuse(_) => {
                    actor.start()?;
                }
            }
        }
        let servers: Vec<Server> = targets.iter().filter_map(|&one| server_of(one)).collect();
        if servers.is_empty() {
            return Ok(());
        }
        let running = self.servers()?;
        match blow {
            Blow::Freeze => {
                for server in servers {
                    running.signal(server, "CONT").await?;
                }
                Ok(())
            }
            Blow::Kill | Blow::Stop | Blow::Fill | Blow::Raise(_) | Blow::Abuse(_) => {
                running.start_again().await
            }
        }
    }

    /// A home whose disk is full must say that it is not ready.
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
        match &mut self.servers {
            Some(servers) => servers.clean().await,
            None => Ok(()),
        }
    }

    async fn hit_server(&mut self, blow: Blow, server: Server) -> anyhow::Result<()> {
        let servers = self.servers()?;
        match blow {
            Blow::Kill | Blow::Fill | Blow::Raise(_) | Blow::Abuse(_) => {
                servers.signal(server, "KILL").await?;
                servers.wait_for_end(server).await
            }
            Blow::Freeze => servers.signal(server, "STOP").await,
            Blow::Stop => servers.stop(server).await,
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
        Target::RabbitMq => Some(Server::RabbitMq),
        Target::Postgres => Some(Server::Postgres),
        _ => None,
    }
}
