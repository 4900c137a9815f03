//! The servers of a distributed deployment: its own database and its own vhost, behind proxies that can be cut.

use std::net::{SocketAddr, ToSocketAddrs as _};

use anyhow::{Context as _, ensure};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::process::Command;

use crate::database_faults::Database;
use crate::proxy::Proxy;
use crate::waiting::until;

/// How a deployment connects to its servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencyRoute {
    /// Through proxies that can be cut.
    Proxied,
    /// Without a proxy, for measurements.
    Direct,
}

/// The servers of a distributed deployment.
pub struct TestDependencies {
    /// The way to PostgreSQL.
    pub postgres: Proxy,
    /// The way to RabbitMQ.
    pub rabbitmq: Proxy,
    /// The broker's URL without the proxy, for publishers and onlookers.
    pub amqp: String,
    /// The database's URL without the proxy.
    pub database: String,
    name: String,
}

impl TestDependencies {
    pub async fn create() -> anyhow::Result<Self> {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        let postgres = variable("HOOKLINE_TEST_POSTGRES")?;
        let amqp = variable("HOOKLINE_TEST_AMQP")?;
        psql(&postgres, &format!("CREATE DATABASE {name}")).await?;
        add_vhost(&name).await?;
        Ok(Self {
            postgres: Proxy::start(address(&postgres)?).await?,
            rabbitmq: Proxy::start(address(&amqp)?).await?,
            amqp: with_path(&amqp, &name)?,
            database: with_path(&postgres, &name)?,
            name,
        })
    }

    /// The settings that point a service at these servers.
    pub fn settings(&self, route: DependencyRoute) -> anyhow::Result<[(String, String); 2]> {
        let (database, broker) = match route {
            DependencyRoute::Direct => (self.database.clone(), self.amqp.clone()),
            DependencyRoute::Proxied => (
                through(&self.database, self.postgres.address())?,
                through(&self.amqp, self.rabbitmq.address())?,
            ),
        };
        Ok([
            ("HOOKLINE__STORE__URL".to_owned(), database),
            ("HOOKLINE__BROKER__URL".to_owned(), broker),
        ])
    }

    pub async fn remove(&self) -> anyhow::Result<()> {
        // As the server's administrator: autovacuum may be at work there, and no other role may end it.
        psql(
            &variable("HOOKLINE_TEST_POSTGRES_ADMIN")?,
            &format!("DROP DATABASE {} WITH (FORCE)", self.name),
        )
        .await?;
        remove_vhost(&self.name).await
    }

    /// The broker's URL through the proxy, with a heartbeat: a frozen peer is noticed after twice as
    /// many seconds.
    pub fn broker_with_heartbeat(&self, seconds: u16) -> anyhow::Result<String> {
        let url = through(&self.amqp, self.rabbitmq.address())?;
        Ok(format!("{url}?heartbeat={seconds}"))
    }

    /// Deletes a queue with its messages, and occupies its name. No other connection may use or declare the queue
    /// until the returned connection ends, which removes the name as well.
    ///
    /// # Errors
    /// When there is no connection, or when others are faster time after time.
    pub async fn take_queue_away(&self, queue: &str) -> anyhow::Result<Connection> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        until(&format!("{queue} to be deleted"), async || {
            // A refusal ends a channel.
            let channel = connection.create_channel().await?;
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await?;
            let exclusive = QueueDeclareOptions {
                exclusive: true,
                ..Default::default()
            };
            let declared = channel.queue_declare(queue.into(), exclusive, FieldTable::default());
            Ok(declared.await.ok().map(drop))
        })
        .await?;
        Ok(connection)
    }

    /// Takes everything away from the broker: queues, exchanges, messages.
    pub async fn lose_broker_data(&self) -> anyhow::Result<()> {
        remove_vhost(&self.name).await?;
        add_vhost(&self.name).await
    }

    /// Raises or clears the broker's memory alarm for the connections of this deployment, with the broker's own message. An
    /// alarm of the whole broker would stop the other deployments, too. Later connections get no such message.
    pub async fn alarm(&self, memory_is_short: bool) -> anyhow::Result<()> {
        evaluate(&format!(
            "[Pid ! {{conserve_resources, memory, {memory_is_short}}} || [{{pid, Pid}}, {{vhost, V}}] <- \
             rabbit_networking:connection_info_all([pid, vhost]), V =:= <<\"{}\">>].",
            self.name
        ))
        .await
    }

    /// The broker's URL with a host that is dead before the proxy, and after it the broker itself.
    pub fn broker_of_three_hosts(&self, dead_port: u16) -> anyhow::Result<String> {
        let own = address(&self.amqp)?;
        let hosts = format!("127.0.0.1:{dead_port},{},{own}", self.rabbitmq.address());
        Ok(self.amqp.replacen(&own.to_string(), &hosts, 1))
    }

    /// The deployment's database as its superuser sees it.
    pub fn as_superuser(&self) -> anyhow::Result<Database> {
        Database::new(&variable("HOOKLINE_TEST_POSTGRES_ADMIN")?, &self.name)
    }

    /// Runs SQL in the deployment's database and returns what it printed, unaligned.
    pub async fn sql(&self, sql: &str) -> anyhow::Result<String> {
        psql(&self.database, sql).await
    }
}

/// The value of an environment variable that `make test` sets.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: run the tests with `make test`"))
}

async fn psql(url: &str, sql: &str) -> anyhow::Result<String> {
    let output = Command::new("psql")
        .args([url, "-XAtqc", sql])
        .output()
        .await
        .context("psql")?;
    ensure!(
        output.status.success(),
        "{sql}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Evaluates Erlang in the broker.
pub async fn evaluate(expression: &str) -> anyhow::Result<()> {
    let output = Command::new(variable("HOOKLINE_TEST_RABBITMQ_EVAL")?)
        .arg(expression)
        .output()
        .await
        .context("rabbitmq-eval")?;
    ensure!(
        output.status.success(),
        "{expression}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

async fn add_vhost(name: &str) -> anyhow::Result<()> {
    evaluate(&format!(
        "rabbit_vhost:add(<<\"{name}\">>, <<\"test\">>), rabbit_auth_backend_internal:set_permissions(\
         <<\"hookline\">>, <<\"{name}\">>, <<\".*\">>, <<\".*\">>, <<\".*\">>, <<\"test\">>)."
    ))
    .await
}

async fn remove_vhost(name: &str) -> anyhow::Result<()> {
    evaluate(&format!(
        "rabbit_vhost:delete(<<\"{name}\">>, <<\"test\">>)."
    ))
    .await
}

pub fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let url: reqwest::Url = url.parse()?;
    let host = (
        url.host_str().context("no host")?,
        url.port().context("no port")?,
    );
    host.to_socket_addrs()?.next().context("no address")
}

fn with_path(url: &str, path: &str) -> anyhow::Result<String> {
    let mut url: reqwest::Url = url.parse()?;
    url.set_path(path);
    Ok(url.to_string())
}

pub fn through(url: &str, proxy: SocketAddr) -> anyhow::Result<String> {
    let mut url: reqwest::Url = url.parse()?;
    url.set_port(Some(proxy.port())).ok().context("no port")?;
    Ok(url.to_string())
}
