//! Receivers as real ones are: they answer most requests at once, some late, some badly, some not at all. After a few
//! attempts they take every request, and the run comes to an end.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::ledger::Ledger;
use super::plan::DEADLINE;
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::receiver::ReceivedRequest;

/// From this attempt on every request is taken.
const IN_THE_END: u32 = 4;

/// While it is on, receivers take nothing. Clones are the same switch.
#[derive(Clone, Default)]
pub(crate) struct RefusalSwitch(Arc<AtomicBool>);

impl RefusalSwitch {
    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How the receiver answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    /// 200 after this delay.
    Takes(Duration),
    /// 200 after the deadline of a request. A dispatcher that was frozen meanwhile may still find it in time.
    TakesTooLate,
    /// 500.
    Fails,
    /// 503 with Retry-After.
    IsBusy,
    /// The connection ends without an answer.
    HangsUp,
    /// The connection ends within the answer.
    BreaksOff,
}

impl Behaviour {
    /// The same for an attempt in every run of a seed, as far as ids are the same.
    fn of(seed: u64, webhook_id: &str, attempt: u32) -> Self {
        let mut hasher = DefaultHasher::new();
        (seed, webhook_id, attempt).hash(&mut hasher);
        let roll = hasher.finish();
        if attempt >= IN_THE_END {
            return Behaviour::Takes(Duration::ZERO);
        }
        match roll % 1_000 {
            0..40 => Behaviour::Fails,
            40..60 => Behaviour::IsBusy,
            60..90 => Behaviour::HangsUp,
            90..110 => Behaviour::BreaksOff,
            110..113 => Behaviour::TakesTooLate,
            113..140 => Behaviour::Takes(Duration::from_millis(300 + roll / 1_000 % 1_200)),
            _ => Behaviour::Takes(Duration::ZERO),
        }
    }

    fn answer(self) -> &'static [u8] {
        match self {
            Behaviour::Takes(_) | Behaviour::TakesTooLate => {
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
            }
            Behaviour::Fails => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
            Behaviour::IsBusy => {
                b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"
            }
            Behaviour::HangsUp => b"",
            Behaviour::BreaksOff => b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhalf",
        }
    }
}

/// Starts a receiver for all subscriptions: the path names one.
pub(crate) async fn start(
    ledger: &Ledger,
    refusal: &RefusalSwitch,
    seed: u64,
) -> anyhow::Result<RawReceiver> {
    let (ledger, refusal) = (ledger.clone(), refusal.clone());
    RawReceiver::with(move |mut connection| {
        let (ledger, refusal) = (ledger.clone(), refusal.clone());
        async move {
            while answer_one(&mut connection, &ledger, &refusal, seed).await? {}
            Ok(())
        }
    })
    .await
}

/// Whether the connection goes on.
async fn answer_one(
    connection: &mut TcpStream,
    ledger: &Ledger,
    refusal: &RefusalSwitch,
    seed: u64,
) -> anyhow::Result<bool> {
    let request = parse(&read_request(connection).await?)?;
    let number = request
        .path
        .trim_start_matches('/')
        .parse()
        .context("no subscription's path")?;
    ledger.record_request(number, &request);
    let attempt = request.header("x-webhook-attempt")?.parse()?;
    let behaviour = match refusal.is_on() {
        true => Behaviour::Fails,
        false => Behaviour::of(seed, request.header("webhook-id")?, attempt),
    };
    match behaviour {
        Behaviour::Takes(after) => tokio::time::sleep(after).await,
        Behaviour::TakesTooLate => tokio::time::sleep(DEADLINE + Duration::from_secs(1)).await,
        _ => {}
    }
    if matches!(behaviour, Behaviour::Takes(_) | Behaviour::TakesTooLate) {
        // Before the answer: after it, the ledger may be asked at once.
        ledger.record_accepted(number, &request);
    }
    connection.write_all(behaviour.answer()).await?;
    match behaviour {
        Behaviour::HangsUp | Behaviour::BreaksOff => {
            connection.shutdown().await?;
            Ok(false)
        }
        _ => Ok(true),
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<ReceivedRequest> {
    let end = bytes
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("a request without an end")?;
    let mut lines = std::str::from_utf8(&bytes[..end])?.lines();
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .context("a request without a path")?;
    Ok(ReceivedRequest {
        at: Instant::now(),
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: bytes[end + 4..].to_vec().into(),
        path: path.to_owned(),
    })
}
