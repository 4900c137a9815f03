//! The command `hookline`: the whole system in one process, and the tools beside it.

mod dead;
mod dev;
mod keys;
mod migrate;
mod organizations;
mod partitions;
mod place;
mod publish;
mod secrets;
mod serve;
mod single;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use hookline_runtime::service::failed;

#[derive(Parser)]
#[command(version, about = "Delivers workflow events as signed webhooks")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything in this process, to try it out: loopback only, http and private targets allowed
    Dev(dev::Dev),
    /// Run everything in this process, with production rules
    Serve(serve::Serve),
    /// Publish events from JSON Lines
    Publish(publish::Publish),
    /// Create and list organizations
    #[command(subcommand)]
    Org(organizations::Organizations),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(keys::Keys),
    /// List, show, put back and drop what could not be handled
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Show the partitions of the subscriptions and the dispatchers that own them
    Partitions(partitions::Partitions),
    /// Make master keys, and encrypt everything under another one
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Bring the database's schema up to date
    Migrate(migrate::Migrate),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev(dev) => dev.run().map(|()| ExitCode::SUCCESS),
        Command::Serve(serve) => serve.run().map(|()| ExitCode::SUCCESS),
        Command::Publish(publish) => in_runtime(publish.run()),
        Command::Org(organizations) => in_runtime(organizations.run()),
        Command::Key(keys) => in_runtime(keys.run()),
        Command::Dead(dead) => in_runtime(dead.run()),
        Command::Partitions(partitions) => in_runtime(partitions.run()),
        Command::Secrets(secrets) => in_runtime(secrets.run()),
        Command::Migrate(migrate) => in_runtime(migrate.run()),
    };
    done.unwrap_or_else(|why| ExitCode::from(failed("hookline", &why)))
}

fn in_runtime(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    hookline_runtime::tls::use_ring();
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(work)
}
