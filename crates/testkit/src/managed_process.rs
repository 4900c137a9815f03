//! Our binaries as processes. A dropped process is killed. Its output goes to a file, which explains a failure.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::process::{Child, Command};

/// A frozen process does not answer. A busy machine takes a while.
const READINESS: Duration = Duration::from_secs(5);

/// A running binary.
pub struct ManagedProcess {
    child: Child,
    log: PathBuf,
}

/// Memory of a process in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Now.
    pub now: u64,
    /// At most, since it started.
    pub peak: u64,
}

impl Memory {
    /// The memory of a process, as Linux counts it.
    pub fn of(process: u32) -> anyhow::Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let kib = |name: &str| -> anyhow::Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
            Ok(value.context("no such line")?.trim().parse()?)
        };
        Ok(Self {
            now: kib("VmRSS:")?,
            peak: kib("VmHWM:")?,
        })
    }
}

/// The status of `/readyz` of the admin listener on this port; 0 without an answer.
pub async fn readiness(admin: u16) -> u16 {
    let asked = crate::http::get(format!("http://127.0.0.1:{admin}/readyz"));
    match tokio::time::timeout(READINESS, asked).await {
        Ok(Ok(answer)) => answer.status().as_u16(),
        _ => 0,
    }
}

/// The path of one of the workspace's binaries. They stand beside this program, and one level above
/// a test or an example.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program has no folder")?;
    let folder = match folder.ends_with("deps") || folder.ends_with("examples") {
        true => folder.parent().context("this test has no folder")?,
        false => folder,
    };
    let path = folder.join(name);
    if !path.exists() {
        bail!(
            "{} is not built: cargo build --workspace --bins",
            path.display()
        );
    }
    Ok(path)
}

/// Below the ephemeral ports of outgoing connections. An ephemeral port could be taken between our check and the start
/// of the process that listens there.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A free port of loopback that this program has not given out before.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN_OUT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Programs that run side by side begin at different places.
    let begin = u16::try_from(std::process::id() * 64 % u32::from(count))?;
    (0..count)
        .map(|_| {
            let given = GIVEN_OUT.fetch_add(1, Ordering::Relaxed);
            PORTS.start + begin.wrapping_add(given) % count
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .context("no port is free")
}

impl ManagedProcess {
    /// Starts `name` with these arguments and variables; its output is added to a file of `logs`.
    pub fn start(
        name: &str,
        args: &[&str],
        variables: &[(String, String)],
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(binary(name)?)
            .args(args)
            .env_clear()
            .envs(
                ["PATH", "HOME", "LLVM_PROFILE_FILE"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, log })
    }

    /// SIGKILL, and waits for the end.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Sends a signal by its name, such as `TERM`.
    pub async fn signal(&self, name: &str) -> anyhow::Result<()> {
        let id = self.child.id().context("the process has ended")?;
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &id.to_string()])
            .status()
            .await?;
        anyhow::ensure!(sent.success(), "could not send {name}");
        Ok(())
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(
            tokio::time::timeout(crate::waiting::PATIENCE, self.child.wait())
                .await
                .context("the process does not end")??,
        )
    }

    /// Waits for its end without a limit.
    pub async fn wait_forever(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// The process id; `None` after its end.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How much memory it holds now and has held at most, in KiB, as Linux counts it.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        Memory::of(self.child.id().context("the process has ended")?)
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// All output of the process so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs a command of `hookline` to its end and returns what it printed.
pub async fn hookline(args: &[&str], variables: &[(String, String)]) -> anyhow::Result<String> {
    let mut command = Command::new(binary("hookline")?);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOOKLINE_") {
            command.env_remove(name);
        }
    }
    let output = command
        .args(args)
        .envs(variables.iter().cloned())
        .stdin(Stdio::null())
        .output()
        .await?;
    if !output.status.success() {
        bail!(
            "hookline {args:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
