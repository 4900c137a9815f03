//! Runs the `hookline` binary as processes with their own folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::colour::dim;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// Lines of the log that are shown after a failure.
const LOG_LINES: usize = 20;

/// The data and the log of the processes.
pub(crate) struct Folder(TempDir);

/// A running `hookline dev`. Dropping it kills the process.
pub(crate) struct Process {
    child: Child,
    /// Standard output. Closing it would make the process fail.
    output: Lines<BufReader<ChildStdout>>,
    folder: Folder,
}

impl Folder {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        Ok(Self(folder))
    }

    /// Runs a command on the folder and returns its last line.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ran = self.hookline(arguments)?.output().await?;
        let error = String::from_utf8_lossy(&ran.stderr);
        let command = arguments.join(" ");
        ensure!(ran.status.success(), "`hookline {command}` failed: {error}");
        let output = String::from_utf8(ran.stdout)?;
        Ok(output.lines().last().unwrap_or_default().to_owned())
    }

    /// Removes the variables of Hookline from the environment.
    fn hookline(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let example = std::env::current_exe()?;
        let profile = example.parent().and_then(Path::parent);
        let binary = profile.context("no target folder")?.join("hookline");
        ensure!(
            binary.exists(),
            "{} is missing; `make demo` builds it first",
            binary.display()
        );
        let mut command = Command::new(binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HOOKLINE_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.0.path().join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.0.path().join("log")
    }

    fn show_log(&self) {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.len().saturating_sub(LOG_LINES);
        for line in &lines[end..] {
            eprintln!("   {}", dim(line));
        }
    }
}

impl Process {
    /// Returns the URL of the API when it serves.
    pub(crate) async fn start(
        folder: Folder,
        arguments: &[&str],
        setting: (&str, &str),
    ) -> anyhow::Result<(String, Self)> {
        let mut child = folder
            .hookline(arguments)?
            .env(setting.0, setting.1)
            .stdout(Stdio::piped())
            .stderr(File::create(folder.log())?)
            .spawn()
            .context("cannot start `hookline dev`")?;
        let out = child.stdout.take().context("no standard output")?;
        let mut process = Self {
            child,
            output: BufReader::new(out).lines(),
            folder,
        };
        let ready = timeout(START, process.until_ready()).await;
        let url = ready
            .unwrap_or_else(|_| Err(anyhow!("`hookline dev` was not ready within {START:?}")))
            .inspect_err(|_| process.show_log())?;
        Ok((url, process))
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Waits for an early end.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(ended) => anyhow!("`hookline dev` ended early: {ended}"),
            Err(why) => anyhow!(why).context("cannot wait for `hookline dev`"),
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else {
            bail!("`hookline dev` had ended before it was stopped");
        };
        let killed = std::process::Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status();
        if killed.is_ok_and(|kill| kill.success())
            && let Ok(ended) = timeout(STOP, self.child.wait()).await
        {
            let ended = ended?;
            ensure!(ended.success(), "`hookline dev` ended with {ended}");
            return Ok(());
        }
        self.child.kill().await?;
        bail!("`hookline dev` did not stop within {STOP:?} and was killed")
    }

    /// Shows the last lines of the log.
    pub(crate) fn show_log(&self) {
        self.folder.show_log();
    }

    async fn until_ready(&mut self) -> anyhow::Result<String> {
        let mut url = None;
        while let Some(line) = self.output.next_line().await? {
            if line == "ready" {
                return url.context("`hookline dev` did not print the address of its API");
            }
            if let Some(address) = line.strip_prefix("API:") {
                url = Some(address.trim().to_owned());
            }
        }
        bail!("`hookline dev` ended before it was ready")
    }
}
