//! Each dispatcher of a run has its own links to the servers, which can be cut. It also has its own fault points, which
//! are armed while it runs, and its own wall clock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::fault::Dependency;
use hookline_testkit::dependencies::{address, through};
use hookline_testkit::proxy::{Link, Proxy};

/// The ways to PostgreSQL and to RabbitMQ.
pub(super) struct NetworkLinks {
    database: Proxy,
    broker: Proxy,
}

impl NetworkLinks {
    pub(super) async fn start(database: &str, broker: &str) -> anyhow::Result<Self> {
        Ok(Self {
            database: Proxy::start(address(database)?).await?,
            broker: Proxy::start(address(broker)?).await?,
        })
    }

    /// The URLs that lead through them.
    pub(super) fn variables(
        &self,
        database: &str,
        broker: &str,
    ) -> anyhow::Result<[(String, String); 2]> {
        Ok([
            (
                "HOOKLINE__STORE__URL".to_owned(),
                through(database, self.database.address())?,
            ),
            (
                "HOOKLINE__BROKER__URL".to_owned(),
                through(broker, self.broker.address())?,
            ),
        ])
    }

    pub(super) fn set(&self, dependency: Dependency, link: Link) {
        match dependency {
            Dependency::Broker => self.broker.set(link),
            Dependency::Database => self.database.set(link),
        }
    }
}

/// A file of armed fault points, which a process reads all the time.
#[derive(Debug, Clone)]
pub(super) struct FaultPoints {
    file: PathBuf,
    armed: BTreeMap<&'static str, String>,
}

impl FaultPoints {
    pub(super) fn new(file: PathBuf) -> anyhow::Result<Self> {
        let fault_points = Self {
            file,
            armed: BTreeMap::new(),
        };
        fault_points.write()?;
        Ok(fault_points)
    }

    pub(super) fn variable(&self) -> (String, String) {
        let file = self.file.to_string_lossy().into_owned();
        ("FAILPOINTS_FILE".to_owned(), file)
    }

    pub(super) fn arm(&mut self, point: &'static str, actions: String) -> anyhow::Result<()> {
        self.armed.insert(point, actions);
        self.write()
    }

    pub(super) fn disarm(&mut self, point: &str) -> anyhow::Result<()> {
        self.armed.remove(point);
        self.write()
    }

    fn write(&self) -> anyhow::Result<()> {
        let points: Vec<String> = self
            .armed
            .iter()
            .map(|(point, actions)| format!("{point}={actions}"))
            .collect();
        replace(&self.file, &points.join(";"))
    }
}

/// A wall clock that libfaketime reads from a file.
#[derive(Debug, Clone)]
pub(super) struct WallClock {
    file: PathBuf,
}

impl WallClock {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// Sets it so many seconds from the true time.
    pub(super) fn set(&self, seconds: i64) -> anyhow::Result<()> {
        // In place: PostgreSQL's user owns the folder of its clock.
        std::fs::write(&self.file, format!("{seconds:+}\n"))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    pub(super) fn variables(&self, library: &str) -> [(String, String); 4] {
        [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy()),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }
}

/// A reader sees all of the old text or all of the new one.
fn replace(file: &Path, text: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    Ok(std::fs::rename(new, file)?)
}
