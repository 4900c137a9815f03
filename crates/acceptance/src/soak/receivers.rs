//! Receivers on ports of their own, with one server for all. Some are healthy, some misbehave until they recover. The
//! server notes each accepted request with its time.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{HttpRequest, HttpResponse, web};
use futures::stream;
use hookline_testkit::receiver::serve;
use serde_json::Value;

/// How a receiver behaves until it recovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiverBehaviour {
    /// It answers 200 at once.
    Healthy,
    /// It never answers.
    Hangs,
    /// It answers 500 after 10 s.
    FailsLate,
    /// It answers 200 and then one byte after the other.
    Trickles,
}

impl ReceiverBehaviour {
    /// How long it holds a request that may take `deadline`.
    pub fn holds(self, deadline: Duration) -> Duration {
        match self {
            ReceiverBehaviour::Healthy => Duration::ZERO,
            ReceiverBehaviour::FailsLate => deadline.min(LATE),
            ReceiverBehaviour::Hangs | ReceiverBehaviour::Trickles => deadline,
        }
    }
}

const LATE: Duration = Duration::from_secs(10);

/// Longer than any deadline.
const NEVER: Duration = Duration::from_secs(300);

/// The times of accepted requests, by subscription and event.
type Taken = HashMap<(usize, u64), Instant>;

/// Receivers side by side.
pub(super) struct ReceiverFleet {
    ports: Vec<u16>,
    requests: Arc<Requests>,
}

#[derive(Default)]
struct Requests {
    behaviours: HashMap<u16, ReceiverBehaviour>,
    are_well: AtomicBool,
    taken: Mutex<Taken>,
}

impl ReceiverFleet {
    /// One receiver for each of these.
    pub(super) fn start(behaviours: &[ReceiverBehaviour]) -> anyhow::Result<Self> {
        let listeners = behaviours
            .iter()
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .collect::<Result<Vec<_>, _>>()?;
        let ports = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<std::io::Result<Vec<u16>>>()?;
        let requests = Arc::new(Requests {
            behaviours: ports
                .iter()
                .copied()
                .zip(behaviours.iter().copied())
                .collect(),
            ..Requests::default()
        });
        let kept = Arc::clone(&requests);
        serve(listeners, 2, move |request, body| {
            answer(Arc::clone(&kept), request, body)
        });
        Ok(Self { ports, requests })
    }

    /// Where the `subscription`th subscription points, on the `receiver`th receiver.
    pub(super) fn url(&self, receiver: usize, subscription: usize) -> String {
        let port = self.ports.get(receiver).copied().unwrap_or_default();
        format!("http://127.0.0.1:{port}/{subscription}")
    }

    /// All become healthy.
    pub(super) fn recover(&self) {
        self.requests.are_well.store(true, Ordering::Relaxed);
    }

    /// When the subscription took the event.
    pub(super) fn taken_at(&self, subscription: usize, event: u64) -> Option<Instant> {
        lock(&self.requests.taken)
            .get(&(subscription, event))
            .copied()
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(requests: Arc<Requests>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let at = Instant::now();
    let port = request.app_config().local_addr().port();
    let behaviour = match requests.are_well.load(Ordering::Relaxed) {
        true => ReceiverBehaviour::Healthy,
        false => requests
            .behaviours
            .get(&port)
            .copied()
            .unwrap_or(ReceiverBehaviour::Healthy),
    };
    match behaviour {
        ReceiverBehaviour::Healthy => match (request.path()[1..].parse(), number_of(&body)) {
            (Ok(subscription), Some(event)) => {
                lock(&requests.taken)
                    .entry((subscription, event))
                    .or_insert(at);
                HttpResponse::Ok().finish()
            }
            _ => HttpResponse::BadRequest().finish(),
        },
        ReceiverBehaviour::Hangs => {
            tokio::time::sleep(NEVER).await;
            HttpResponse::Ok().finish()
        }
        ReceiverBehaviour::FailsLate => {
            tokio::time::sleep(LATE).await;
            HttpResponse::InternalServerError().finish()
        }
        ReceiverBehaviour::Trickles => {
            HttpResponse::Ok().streaming(stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                Some((Ok::<_, actix_web::Error>(web::Bytes::from_static(b".")), ()))
            }))
        }
    }
}

fn number_of(body: &[u8]) -> Option<u64> {
    let event: Value = serde_json::from_slice(body).ok()?;
    event["data"]["n"].as_u64()
}
