//! The load generator and the receiver as separate processes: this program with another task.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hookline_testkit::managed_process::binary;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::baseline::Relayed;
use crate::ledger::ReceiverReport;
use crate::publisher::{Publish, Published};

fn bench(args: &[&str]) -> anyhow::Result<Command> {
    let mut command = Command::new(binary("bench")?);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

async fn last_words(args: &[&str]) -> anyhow::Result<String> {
    let output = bench(args)?.stderr(Stdio::piped()).output().await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "bench {}: {}",
        args.first().unwrap_or(&""),
        error.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Publishes in a separate process and waits for its end.
pub async fn publish(what: &Publish) -> anyhow::Result<Published> {
    let Publish {
        amqp,
        api,
        key,
        organizations,
        types,
        first,
        count,
        rate,
        batch,
    } = what;
    let mut args = vec![
        "publish".to_owned(),
        format!("--organizations={}", organizations.join(",")),
        format!("--types={}", types.join(",")),
        format!("--first={first}"),
        format!("--count={count}"),
        format!("--batch={batch}"),
    ];
    args.extend(amqp.iter().map(|amqp| format!("--amqp={amqp}")));
    args.extend(api.iter().map(|api| format!("--api={api}")));
    args.extend(rate.iter().map(|rate| format!("--rate={rate}")));
    args.push(format!("--key={key}"));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ok(serde_json::from_str(&last_words(&args).await?)?)
}

/// The bare requests per second that `receiver` answers.
pub async fn posts_per_second(receiver: &ReceiverProcess, count: u64) -> anyhow::Result<f64> {
    let (url, count) = (
        format!("--url={}", receiver.url("bare/0")),
        format!("--count={count}"),
    );
    Ok(last_words(&["post", &url, &count]).await?.parse()?)
}

/// The latencies of bare requests at this rate per second, in microseconds. `receiver` must be new.
pub async fn posts_at(
    rate: u32,
    receiver: &ReceiverProcess,
    count: u64,
) -> anyhow::Result<Vec<u32>> {
    let url = format!("--url={}", receiver.url("bare/0"));
    let (count, rate) = (format!("--count={count}"), format!("--rate={rate}"));
    last_words(&["post", &url, &count, &rate]).await?;
    Ok(receiver.report().await?.latencies)
}

/// Sends messages through a quorum queue of this broker, at a rate or as fast as it accepts them.
pub async fn relay(amqp: &str, count: u64, rate: Option<u32>) -> anyhow::Result<Relayed> {
    let mut args = vec![
        "relay".to_owned(),
        format!("--amqp={amqp}"),
        format!("--count={count}"),
    ];
    args.extend(rate.map(|rate| format!("--rate={rate}")));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ok(serde_json::from_str(&last_words(&args).await?)?)
}

/// The scheme of a receiver's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// The receiver writes the certificate of its authority into this file.
    Https(PathBuf),
}

/// A receiver's process.
pub struct ReceiverProcess {
    process: Child,
    scheme: Scheme,
    /// The port of deliveries and of the ledger, with TLS in [`Scheme::Https`].
    port: u16,
    http: reqwest::Client,
}

impl ReceiverProcess {
    pub async fn start(scheme: Scheme) -> anyhow::Result<Self> {
        let mut command = bench(&["receive"])?;
        let mut http = reqwest::Client::builder();
        if let Scheme::Https(file) = &scheme {
            command.arg("--authority").arg(file);
        }
        let mut process = command.spawn()?;
        let output = process.stdout.take().context("a receiver without output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).await?;
        let port = line
            .trim()
            .parse()
            .context("the receiver did not tell its port")?;
        if let Scheme::Https(file) = &scheme {
            let authority = reqwest::Certificate::from_pem(&std::fs::read(file)?)?;
            http = http.tls_certs_only([authority]);
        }
        Ok(Self {
            process,
            scheme,
            port,
            http: http.build()?,
        })
    }

    /// The URL of this path.
    pub fn url(&self, path: &str) -> String {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https(_) => "https",
        };
        format!("{scheme}://127.0.0.1:{}/{path}", self.port)
    }

    /// The id of its process.
    pub fn id(&self) -> anyhow::Result<u32> {
        self.process.id().context("the receiver has ended")
    }

    /// Begins a new report.
    pub async fn reset(&self) -> anyhow::Result<()> {
        self.http
            .post(self.url("reset"))
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// Ends the outage of the subscriptions that are down.
    pub async fn recover(&self) -> anyhow::Result<()> {
        let answer = self.http.post(self.url("recover")).send().await?;
        answer.error_for_status()?;
        Ok(())
    }

    pub async fn report(&self) -> anyhow::Result<ReceiverReport> {
        Ok(self
            .http
            .get(self.url("report"))
            .send()
            .await?
            .json()
            .await?)
    }

    /// Waits until `count` deliveries have arrived, and returns the report.
    ///
    /// # Errors
    /// If no delivery arrives for `patience`, more than `count` or wrong requests arrive, or no signature was checked.
    pub async fn wait_for(&self, count: u64, patience: Duration) -> anyhow::Result<ReceiverReport> {
        let (mut taken, mut since) = (0, Instant::now());
        while taken < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let answer = self.http.get(self.url("taken")).send().await?;
            let now: u64 = answer.text().await?.parse()?;
            if now > taken {
                (taken, since) = (now, Instant::now());
            }
            ensure!(
                since.elapsed() < patience,
                "{taken} of {count} deliveries came, and then none"
            );
        }
        let report = self.report().await?;
        ensure!(
            report.taken == count,
            "{} deliveries came, and {count} were owed",
            report.taken
        );
        ensure!(
            report.wrong == 0,
            "{} requests with a wrong signature or body",
            report.wrong
        );
        ensure!(report.checked > 0, "no signature was checked");
        Ok(report)
    }
}
