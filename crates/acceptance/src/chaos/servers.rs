//! A PostgreSQL and a RabbitMQ that may be killed. RabbitMQ is one node or a cluster of three. `deploy/services` starts
//! them in a folder of their own, and restarts them on the same data and ports.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::links::WallClock;
use super::scenario::{NODES, Scenario};
use hookline_testkit::database_faults::Database;
use hookline_testkit::dependencies::address;
use hookline_testkit::waiting::until;

/// Running servers. When this is dropped they end and their data goes.
pub(crate) struct Servers {
    folder: PathBuf,
    scenario: Scenario,
    env: HashMap<String, String>,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DependencyServer {
    Postgres,
    /// A node of it; the first one where there is one.
    RabbitMq(usize),
}

/// The suffix of a node's environment variables.
fn suffix(node: usize) -> String {
    match node {
        0 => String::new(),
        _ => format!("_{}", node + 1),
    }
}

/// Prints how many other nodes run, and the members of quorum queues that do not. A node that has just booted recovers its
/// members one after the other.
const MEMBERS: &str = "
Queues = [element(1, amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(), amqqueue:get_type(Q) =:= rabbit_quorum_queue],
State = fun(Q, Known) -> case lists:keyfind(Q, 1, Known) of false -> none; Found -> element(2, Found) end end,
{length(nodes()), [{N, Q} || N <- [node() | nodes()],
  Known <- [try erpc:call(N, ets, tab2list, [ra_state], 2000) catch _:_ -> [] end],
  Q <- Queues, not lists:member(State(Q, Known), [leader, follower])]}.";

/// A killed process stays in the process list until its parent asks for its status.
const ZOMBIE: [&str; 2] = ["Z", "X"];

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/services")
}

impl Servers {
    pub(crate) async fn start(folder: &Path, scenario: Scenario) -> anyhow::Result<Self> {
        let mut servers = Self {
            folder: folder.to_owned(),
            scenario,
            env: HashMap::new(),
        };
        servers.run(servers.how()).await?;
        servers.env = servers.read_env()?;
        if scenario == Scenario::Distributed && servers.postgres_clock().is_none() {
            println!("chaos: clocks that are set were NOT TRIED: libfaketime is not installed");
        }
        Ok(servers)
    }

    fn how(&self) -> &'static str {
        match self.scenario {
            Scenario::Cluster => "cluster",
            _ => "start",
        }
    }

    /// Starts what does not run.
    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        let (postgres, amqp) = (self.postgres()?.to_owned(), self.amqp()?);
        self.run(self.how()).await?;
        self.env = self.read_env()?;
        ensure!(
            self.postgres()? == postgres && self.amqp()? == amqp,
            "another program has taken a server's port meanwhile"
        );
        Ok(())
    }

    pub(crate) fn postgres(&self) -> anyhow::Result<&str> {
        self.value("HOOKLINE_TEST_POSTGRES")
    }

    /// The deployment's database as its superuser sees it.
    pub(crate) fn database(&self) -> anyhow::Result<Database> {
        Database::new(self.value("HOOKLINE_TEST_POSTGRES_ADMIN")?, "hookline")
    }

    /// The URL of each node.
    pub(crate) fn amqp(&self) -> anyhow::Result<Vec<String>> {
        self.nodes()
            .map(|node| {
                Ok(self
                    .value(&format!("HOOKLINE_TEST_AMQP{}", suffix(node)))?
                    .to_owned())
            })
            .collect()
    }

    /// The URL with all nodes, as a service is given it.
    pub(crate) fn broker(&self) -> anyhow::Result<String> {
        let urls = self.amqp()?;
        let (first, others) = urls.split_first().context("no broker")?;
        let mut hosts = address(first)?.to_string();
        let url = first.replacen(&hosts, "HOSTS", 1);
        for other in others {
            hosts.push_str(&format!(",{}", address(other)?));
        }
        Ok(url.replacen("HOSTS", &hosts, 1))
    }

    fn nodes(&self) -> std::ops::Range<usize> {
        match self.scenario {
            Scenario::Cluster => 0..NODES,
            _ => 0..1,
        }
    }

    fn all(&self) -> impl Iterator<Item = DependencyServer> {
        self.nodes()
            .map(DependencyServer::RabbitMq)
            .chain([DependencyServer::Postgres])
    }

    /// Waits until each member of each quorum queue runs.
    pub(crate) async fn wait_for_members(&self) -> anyhow::Result<()> {
        until("a cluster that is whole", async || {
            let asked = Command::new(self.value("HOOKLINE_TEST_RABBITMQ_EVAL")?)
                .arg(MEMBERS.replace('\n', " "))
                .output()
                .await?;
            let text = String::from_utf8_lossy(&asked.stdout);
            let whole = format!("{{{}, []}}", NODES - 1);
            Ok((asked.status.success() && text.trim() == whole).then_some(()))
        })
        .await
    }

    /// The library that shifts a process's wall clock, where it is installed.
    pub(crate) fn faketime(&self) -> Option<String> {
        let library = self.value("HOOKLINE_TEST_FAKETIME").ok()?;
        (!library.is_empty()).then(|| library.to_owned())
    }

    /// The clock of PostgreSQL, where that library is installed.
    pub(crate) fn postgres_clock(&self) -> Option<WallClock> {
        let file = self.value("HOOKLINE_TEST_POSTGRES_CLOCK").ok()?;
        (!file.is_empty()).then(|| WallClock::new(file.into()))
    }

    /// Their names and versions.
    pub(crate) async fn versions(&self) -> anyhow::Result<Vec<String>> {
        let postgres = Command::new("psql")
            .args([self.postgres()?, "-XAtqc", "SHOW server_version"])
            .output()
            .await?;
        let rabbitmq = Command::new(self.value("HOOKLINE_TEST_RABBITMQCTL")?)
            .arg("version")
            .output()
            .await?;
        let version_line = |name: &str, output: &[u8]| {
            format!("{name} {}", String::from_utf8_lossy(output).trim())
        };
        Ok(vec![
            version_line("PostgreSQL", &postgres.stdout),
            version_line("RabbitMQ", &rabbitmq.stdout),
        ])
    }

    pub(crate) async fn signal(&self, server: DependencyServer, name: &str) -> anyhow::Result<()> {
        let ids: Vec<String> = self.processes(server)?.iter().map(u32::to_string).collect();
        // The parent comes first: it starts no further children meanwhile. A child may end between our look and the
        // signal.
        Command::new("kill")
            .arg(format!("-{name}"))
            .args(ids)
            .stderr(std::process::Stdio::null())
            .status()
            .await?;
        Ok(())
    }

    /// Copies the data of PostgreSQL while none of its processes runs. The copy is the state that a crash would leave.
    pub(crate) async fn copy_postgres(&self, tables: Option<&Path>) -> anyhow::Result<()> {
        let server = DependencyServer::Postgres;
        self.signal(server, "STOP").await?;
        // A child that was made meanwhile is known once its parent is frozen.
        self.signal(server, "STOP").await?;
        until("a frozen PostgreSQL", async || {
            let all = self.processes(server)?;
            Ok(all.into_iter().all(is_frozen).then_some(()))
        })
        .await?;
        for (data, copy) in self.data_of_postgres(tables)? {
            shell("rm -rf \"$2\" && cp -a \"$1\" \"$2\"", &data, &copy).await?;
        }
        self.signal(server, "CONT").await
    }

    /// Kills PostgreSQL and replaces its data by the copy. Returns the time at which it had ended.
    pub(crate) async fn fall_back_to_copy(&self, tables: Option<&Path>) -> anyhow::Result<Instant> {
        let all = self.processes(DependencyServer::Postgres)?;
        self.signal(DependencyServer::Postgres, "KILL").await?;
        until("the end of PostgreSQL", async || {
            Ok(all.iter().all(|id| parent_of(*id).is_none()).then_some(()))
        })
        .await?;
        let killed = Instant::now();
        for (data, copy) in self.data_of_postgres(tables)? {
            // The folder itself may be a mount point: only its content is replaced.
            let replace =
                "find \"$1\" -mindepth 1 -delete && cp -a \"$2/.\" \"$1\" && rm -rf \"$2\"";
            shell(replace, &data, &copy).await?;
        }
        Ok(killed)
    }

    /// Its folders, and where their copies are.
    fn data_of_postgres(&self, tables: Option<&Path>) -> anyhow::Result<Vec<(PathBuf, PathBuf)>> {
        let data = self.folder.join("postgres/data").canonicalize()?;
        let copy = data.with_extension("copy");
        let tables = tables.map(|tables| (tables.to_owned(), self.folder.join("tables.copy")));
        Ok([(data, copy)].into_iter().chain(tables).collect())
    }

    /// Asks it to end well, and waits.
    pub(crate) async fn stop(&self, server: DependencyServer) -> anyhow::Result<()> {
        let (id, name) = match server {
            DependencyServer::Postgres => (self.id(server)?, "-INT"),
            DependencyServer::RabbitMq(_) => (self.id(server)?, "-TERM"),
        };
        let sent = Command::new("kill")
            .args([name, &id.to_string()])
            .status()
            .await?;
        ensure!(sent.success(), "{server:?} does not run");
        self.wait_for_end(server).await
    }

    pub(crate) async fn wait_for_end(&self, server: DependencyServer) -> anyhow::Result<()> {
        let id = self.id(server)?;
        until(&format!("the end of {server:?}"), async || {
            Ok(parent_of(id).is_none().then_some(()))
        })
        .await
    }

    /// Kills the servers and removes their data. The data is of no more use: a graceful shutdown is not waited for.
    pub(crate) async fn clean(&mut self) -> anyhow::Result<()> {
        for server in self.all() {
            self.signal(server, "KILL").await?;
        }
        self.env.clear();
        self.run("clean").await
    }

    fn id(&self, server: DependencyServer) -> anyhow::Result<u32> {
        let name = match server {
            DependencyServer::Postgres => "HOOKLINE_TEST_POSTGRES_PID".to_owned(),
            DependencyServer::RabbitMq(node) => {
                format!("HOOKLINE_TEST_RABBITMQ_PID{}", suffix(node))
            }
        };
        Ok(self.value(&name)?.parse()?)
    }

    /// PostgreSQL serves each connection in a process of its own.
    fn processes(&self, server: DependencyServer) -> anyhow::Result<Vec<u32>> {
        let main = self.id(server)?;
        let mut all = vec![main];
        if server == DependencyServer::Postgres {
            for entry in std::fs::read_dir("/proc")? {
                let name = entry?.file_name();
                let id = name.to_str().and_then(|name| name.parse().ok());
                all.extend(id.filter(|&id| parent_of(id) == Some(main)));
            }
        }
        Ok(all)
    }

    fn value(&self, name: &str) -> anyhow::Result<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("the servers do not run: no {name}"))
    }

    fn read_env(&self) -> anyhow::Result<HashMap<String, String>> {
        let text = std::fs::read_to_string(self.folder.join("env"))?;
        let lines = text.lines().filter_map(|line| line.split_once('='));
        Ok(lines
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }

    /// Whether the clock of PostgreSQL is a file.
    fn clock(&self) -> &'static str {
        match self.scenario {
            Scenario::Distributed => "file",
            _ => "",
        }
    }

    async fn run(&self, what: &str) -> anyhow::Result<()> {
        let run = Command::new(script())
            .arg(what)
            .arg(&self.folder)
            .env("HOOKLINE_SERVICES_CLOCK", self.clock())
            .stdin(std::process::Stdio::null())
            .output();
        let output = tokio::time::timeout(Duration::from_secs(180), run)
            .await
            .with_context(|| format!("deploy/services {what} does not end"))??;
        ensure!(
            output.status.success(),
            "deploy/services {what}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        if self.env.is_empty() {
            return;
        }
        // A server that was frozen when a run failed could not end.
        for server in self.all() {
            let ids = self.processes(server).unwrap_or_default();
            let ids = ids.iter().map(u32::to_string);
            let _gone = std::process::Command::new("kill")
                .arg("-CONT")
                .args(ids)
                .stderr(std::process::Stdio::null())
                .status();
        }
        let _reported_by_the_script = std::process::Command::new(script())
            .arg("clean")
            .arg(&self.folder)
            .status();
    }
}

/// The parent of a process that lives.
fn parent_of(id: u32) -> Option<u32> {
    let (state, parent) = stat_of(id)?;
    (!ZOMBIE.contains(&&*state)).then_some(parent)
}

/// Whether a process does nothing, or has ended.
fn is_frozen(id: u32) -> bool {
    stat_of(id).is_none_or(|(state, _)| state == "T" || ZOMBIE.contains(&&*state))
}

/// The state and the parent of a process.
fn stat_of(id: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Before the bracket stands a name that may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

/// Runs a script with two folders as its arguments.
async fn shell(script: &str, first: &Path, second: &Path) -> anyhow::Result<()> {
    let run = Command::new("sh")
        .args(["-euc", script, "sh"])
        .args([first, second])
        .output()
        .await?;
    ensure!(
        run.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&run.stderr)
    );
    Ok(())
}
