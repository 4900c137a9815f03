//! A start that has to fail, and many of them at once.

use anyhow::{Context as _, ensure};
use hookline_testkit::managed_process::ManagedProcess;
use tokio::task::JoinSet;

/// A start that has to fail.
#[derive(Clone)]
pub(crate) struct Start {
    binary: &'static str,
    args: Vec<String>,
    variables: Vec<(String, String)>,
}

impl Start {
    pub(crate) fn of(binary: &'static str, args: &[&str]) -> Self {
        // Without log lines, what is said is the one line.
        let quiet = ("HOOKLINE__LOG__LEVEL".to_owned(), "off".to_owned());
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let variables = vec![quiet];
        Self {
            binary,
            args,
            variables,
        }
        // A server that answers is not waited for this long, and a slow machine's takes seconds.
        .with("HOOKLINE__START__WAIT_FOR_PEERS_SECONDS", "20")
    }

    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut with = self.clone();
        with.variables.push((name.to_owned(), value.to_owned()));
        with
    }

    pub(crate) fn arg(&self, arg: &str) -> Self {
        let mut with = self.clone();
        with.args.push(arg.to_owned());
        with
    }

    /// Its one line has these parts, in this order, and its end this status.
    async fn fails(self, status: i32, parts: &[&str]) -> anyhow::Result<()> {
        let (ended, output) = self.end().await?;
        let description = format!("{} {:?} said {output:?}", self.binary, self.args);
        ensure!(ended == Some(status), "{ended:?}: {description}");
        ensure!(
            output.lines().count() == 1 && output.ends_with('\n'),
            "{description}"
        );
        let mut rest = output.as_str();
        for part in parts {
            let (_, after) = rest
                .split_once(part)
                .with_context(|| format!("no {part:?}: {description}"))?;
            rest = after;
        }
        ensure!(
            !output.contains("hush"),
            "a password is shown: {description}"
        );
        Ok(())
    }

    pub(crate) async fn end(&self) -> anyhow::Result<(Option<i32>, String)> {
        let logs = tempfile::tempdir()?;
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let mut process = ManagedProcess::start(self.binary, &args, &self.variables, logs.path())?;
        let status = process.wait().await?.code();
        Ok((status, process.output()))
    }
}

/// Each case at the same time: they wait more than they work.
#[derive(Default)]
pub(crate) struct Cases(JoinSet<anyhow::Result<()>>);

impl Cases {
    pub(crate) fn add(&mut self, start: Start, status: i32, parts: &[&str]) {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        self.0.spawn(async move {
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            start.fails(status, &parts).await
        });
    }

    pub(crate) async fn all(mut self) -> anyhow::Result<()> {
        while let Some(case) = self.0.join_next().await {
            case??;
        }
        Ok(())
    }
}
