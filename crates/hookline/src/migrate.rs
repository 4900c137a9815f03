//! `hookline migrate`: migrates the schema of the database and declares the exchanges and queues of the broker, before the
//! services of a new version start.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hookline_bootstrap::distributed;
use hookline_queue_rabbitmq::Declared;
use hookline_runtime::dependencies;
use hookline_store::StoreError;

use crate::target_store::{now, settings};

/// A folder needs no command: `hookline serve` and `hookline dev` migrate it when they open it.
#[derive(Debug, Args)]
pub(crate) struct Migrate {
    /// Read settings from FILE
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Migrate {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        let settings = settings(self.config.as_deref())?;
        let store = distributed::store(&settings)?;
        let migrated =
            dependencies::wait_for("PostgreSQL", settings.start.wait_for_peers, async || {
                let clock = store.clock().await.unwrap_or_else(now);
                match store
                    .migrate(clock)
                    .await
                    .map_err(StoreError::at_first_start)
                {
                    Err(transient @ StoreError::Unavailable(_)) => Err(transient),
                    migrated => Ok(migrated),
                }
            })
            .await?;
        migrated?;
        println!("the schema of {} is up to date", settings.store.url);
        if settings.broker.url.is_set() {
            println!("{}", declared_text(distributed::declare(&settings).await?));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn declared_text(declared: Declared) -> &'static str {
    match declared {
        Declared::Anew => "the broker's exchanges and queues are declared",
        Declared::Found => {
            "the broker's exchanges and queues exist; its user may not declare them, so bindings were not checked"
        }
    }
}
