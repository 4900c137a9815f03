//! The command `hookline`: standalone mode, and commands for operators.

mod dead_letters;
mod dev;
mod folder_key;
mod keys;
mod migrate;
mod organizations;
mod partitions;
mod publish;
mod secrets;
mod serve;
mod standalone;
mod target_store;

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
    /// Run all services in this process for a trial: loopback only, http and private targets allowed
    Dev(dev::Dev),
    /// Run all services in this process for production
    Serve(serve::Serve),
    /// Publish events from JSON Lines
    Publish(publish::PublishCommand),
    /// Create and list organizations
    #[command(subcommand)]
    Org(organizations::Organizations),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Key(keys::Keys),
    /// List, show, redrive and drop dead letters
    #[command(subcommand, alias = "dead")]
    DeadLetters(dead_letters::DeadLettersCommand),
    /// Show the partitions of the subscriptions and the dispatchers that own them
    Partitions(partitions::PartitionsCommand),
    /// Make a master key, and encrypt everything under a new one
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Migrate the schema of the database, and declare the queues of the broker
    Migrate(migrate::Migrate),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Dev(dev) => dev.run().map(|()| ExitCode::SUCCESS),
        Command::Serve(serve) => serve.run().map(|()| ExitCode::SUCCESS),
        Command::Publish(publish) => in_runtime(publish.run()),
        Command::Org(organizations) => in_runtime(organizations.run()),
        Command::Key(keys) => in_runtime(keys.run()),
        Command::DeadLetters(dead_letters) => in_runtime(dead_letters.run()),
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
