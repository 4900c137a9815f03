//! `hookline dev` as a process with a folder of its own.

use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};
use hookline_testkit::cli::{HooklineCli, owned};
use hookline_testkit::managed_process::ManagedProcess;
use hookline_testkit::waiting::until;
use tempfile::TempDir;

use crate::colour::dim;

/// Lines of the log that are shown after a failure.
const LOG_LINES: usize = 20;

/// A running `hookline dev`. Dropping it kills the process.
pub(crate) struct Process {
    process: ManagedProcess,
    /// Commands on its data.
    pub(crate) cli: HooklineCli,
    _folder: TempDir,
}

impl Process {
    /// Returns the URL of the API when it serves.
    pub(crate) async fn start(
        arguments: &[&str],
        settings: &[(&str, &str)],
    ) -> anyhow::Result<(String, Self)> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let cli = HooklineCli::new(owned(settings).collect(), Some(&folder.path().join("data")))?;
        let process = start(arguments, &cli, folder.path())?;
        let mut process = Self {
            process,
            cli,
            _folder: folder,
        };
        let ready = until("`hookline dev`", async || process.url_when_ready()).await;
        let url = ready.inspect_err(|_| process.show_log())?;
        Ok((url, process))
    }

    fn url_when_ready(&mut self) -> anyhow::Result<Option<String>> {
        let is_running = self.process.is_running();
        let output = self.process.output();
        if !output.lines().any(|line| line == "ready") {
            ensure!(is_running, "`hookline dev` ended before it was ready");
            return Ok(None);
        }
        let mut lines = output.lines();
        let url = lines.find_map(|line| line.strip_prefix("API:"));
        let url = url.context("`hookline dev` did not print the address of its API")?;
        Ok(Some(url.trim().to_owned()))
    }

    /// Waits for an early end.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.process.wait_forever().await {
            Ok(ended) => anyhow!("`hookline dev` ended early: {ended}"),
            Err(why) => why.context("cannot wait for `hookline dev`"),
        }
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let stopped = self.process.signal("TERM").await;
        stopped.context("`hookline dev` had ended before it was stopped")?;
        let ended = self.process.wait().await?;
        ensure!(ended.success(), "`hookline dev` ended with {ended}");
        Ok(())
    }

    pub(crate) fn show_log(&self) {
        let text = self.process.output();
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.len().saturating_sub(LOG_LINES);
        for line in &lines[end..] {
            eprintln!("   {}", dim(line));
        }
    }
}

fn start(arguments: &[&str], cli: &HooklineCli, folder: &Path) -> anyhow::Result<ManagedProcess> {
    let location = cli.location().iter().map(String::as_str);
    let arguments: Vec<&str> = arguments.iter().copied().chain(location).collect();
    ManagedProcess::start("hookline", &arguments, cli.variables(), folder)
}
