//! The binary beside this example, as processes of their own in a folder of their own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::ink::dim;

const START: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);

/// How much of the log is shown when something went wrong.
const LOG_LINES: usize = 20;

/// What the processes share: the system's data, and its log.
pub(crate) struct Folder(TempDir);

/// `hookline dev`, running. It is killed when it is dropped without having been stopped.
pub(crate) struct Process {
    child: Child,
    /// What it says on standard output: it could say nothing more if nobody held this.
    said: Lines<BufReader<ChildStdout>>,
    folder: Folder,
}

impl Folder {
    pub(crate) fn create() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        Ok(Self(folder))
    }

    /// Runs a command on the folder and returns the last line that it says.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let ran = self.hookline(arguments)?.output().await?;
        let complaint = String::from_utf8_lossy(&ran.stderr);
        let command = arguments.join(" ");
        ensure!(
            ran.status.success(),
            "`hookline {command}` failed: {complaint}"
        );
        let said = String::from_utf8(ran.stdout)?;
        Ok(said.lines().last().unwrap_or_default().to_owned())
    }

    /// Settings of whoever runs the demo do not reach it.
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
    /// Starts it and returns its URL once it serves.
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
            said: BufReader::new(out).lines(),
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

    /// Returns when it is over, which it should not be.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.child.wait().await {
            Ok(ended) => anyhow!("`hookline dev` ended early: {ended}"),
            Err(why) => anyhow!(why).context("`hookline dev` cannot be watched"),
        }
    }

    /// Asks it to stop as an operator would, and waits until it has.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(id) = self.child.id() else {
            bail!("`hookline dev` had ended before it was stopped");
        };
        let asked = std::process::Command::new("kill")
            .args(["-TERM", &id.to_string()])
            .status();
        if asked.is_ok_and(|kill| kill.success())
            && let Ok(ended) = timeout(STOP, self.child.wait()).await
        {
            let ended = ended?;
            ensure!(ended.success(), "`hookline dev` ended with {ended}");
            return Ok(());
        }
        self.child.kill().await?;
        bail!("`hookline dev` did not stop within {STOP:?} and was killed")
    }

    /// The end of its log, for whoever wonders.
    pub(crate) fn show_log(&self) {
        self.folder.show_log();
    }

    async fn until_ready(&mut self) -> anyhow::Result<String> {
        let mut url = None;
        while let Some(line) = self.said.next_line().await? {
            if line == "ready" {
                return url.context("`hookline dev` did not say where its API is");
            }
            if let Some(address) = line.strip_prefix("API:") {
                url = Some(address.trim().to_owned());
            }
        }
        bail!("`hookline dev` ended before it was ready")
    }
}
