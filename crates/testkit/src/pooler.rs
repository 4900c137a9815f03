//! pgbouncer between Hookline and PostgreSQL.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Stdio;

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::managed_process::free_port;
use crate::waiting::until;

/// When a client returns its server connection to the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolMode {
    /// When it disconnects.
    Session,
    /// After each transaction.
    Transaction,
}

/// A running pgbouncer.
pub struct Pooler {
    /// The database's URL through it.
    pub url: String,
    port: u16,
    folder: TempDir,
    running: Child,
}

impl Pooler {
    /// Starts one for the database of this URL.
    pub async fn start(database: &str, mode: PoolMode) -> anyhow::Result<Self> {
        let mut url: reqwest::Url = database.parse()?;
        let (host, server) = (
            url.host_str().context("no host")?.to_owned(),
            url.port().context("no port")?,
        );
        let port = free_port()?;
        url.set_port(Some(port)).ok().context("no port")?;
        let folder = tempfile::Builder::new()
            .prefix("hookline-pgbouncer-")
            .tempdir()?;
        // It refuses to run as root, and becomes another user.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let users = folder.path().join("users");
        let password = url.password().context("no password")?;
        std::fs::write(&users, format!("\"{}\" \"{password}\"\n", url.username()))?;
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let settings = format!(
            "[databases]\n* = host={host} port={server}\n[pgbouncer]\nlisten_addr=127.0.0.1\n\
             listen_port={port}\nunix_socket_dir=\nauth_type=scram-sha-256\nauth_file={}\n\
             pool_mode={mode}\ndefault_pool_size=100\n",
            users.display()
        );
        std::fs::write(folder.path().join("ini"), settings)?;
        let running = start(&folder, port).await?;
        Ok(Self {
            url: url.to_string(),
            port,
            folder,
            running,
        })
    }

    /// Ends it, with every session, and starts it anew on the same port.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.running.kill().await?;
        self.running = start(&self.folder, self.port).await?;
        Ok(())
    }
}

async fn start(folder: &TempDir, port: u16) -> anyhow::Result<Child> {
    let mut command = Command::new("pgbouncer");
    if std::fs::metadata("/proc/self")?.uid() == 0 {
        command.args(["-u", "nobody"]);
    }
    // Debian installs it in a folder that is not in every user's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut running = command
        .arg(folder.path().join("ini"))
        .env("PATH", format!("{path}:/usr/sbin"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("pgbouncer: `deploy/services install` installs it")?;
    until("pgbouncer", async || {
        anyhow::ensure!(running.try_wait()?.is_none(), "pgbouncer ended by itself");
        let connected = TcpStream::connect(("127.0.0.1", port)).await;
        Ok(connected.is_ok().then_some(()))
    })
    .await?;
    Ok(running)
}
