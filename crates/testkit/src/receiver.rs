//! A real HTTP receiver that answers as it is told and remembers all its requests.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::{Context as _, ensure};

use crate::waiting::until;

/// One request as it came.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    pub at: Instant,
    /// Header values by lowercase name.
    pub headers: HashMap<String, String>,
    /// The bytes of the body.
    pub body: web::Bytes,
    /// The path and query it was sent to.
    pub path: String,
}

/// An answer of the receiver.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    /// Additional headers.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// How long it waits before it answers.
    pub after: Duration,
}

impl Reply {
    /// Only a status.
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
            after: Duration::ZERO,
        }
    }

    /// With an additional header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With a delay before the answer.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.after = wait;
        self
    }
}

/// Decides on an answer. Takes the request, and the number of earlier requests with its `webhook-id`.
type ReplyFunction = dyn Fn(&ReceivedRequest, usize) -> Reply + Send + Sync;

/// A receiver on a port of loopback.
#[derive(Clone)]
pub struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<ReceivedRequest>>>,
}

impl Receiver {
    /// One that always answers 200.
    pub fn healthy() -> anyhow::Result<Self> {
        Self::with(|_, _| Reply::status(200))
    }

    /// One that answers 503 until it is switched on, and 200 from then on.
    pub fn refusing() -> anyhow::Result<(Self, Arc<AtomicBool>)> {
        Self::until_well(Reply::status(503))
    }

    /// One that answers with `reply` until it is switched on, and with 200 from then on.
    pub fn until_well(reply: Reply) -> anyhow::Result<(Self, Arc<AtomicBool>)> {
        let is_well = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&is_well);
        let receiver = Self::with(move |_, _| match well.load(Ordering::Relaxed) {
            true => Reply::status(200),
            false => reply.clone(),
        })?;
        Ok((receiver, is_well))
    }

    /// One that answers with `replies` in turn to each delivery, and with the last for ever.
    pub fn answering(replies: Vec<Reply>) -> anyhow::Result<Self> {
        let last = replies.last().cloned().context("a receiver must answer")?;
        Self::with(move |_, before| replies.get(before).unwrap_or(&last).clone())
    }

    /// One that decides for each request.
    pub fn with(
        behaviour: impl Fn(&ReceivedRequest, usize) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let behaviour: Arc<ReplyFunction> = Arc::new(behaviour);
        serve(vec![listener], 1, move |request, body| {
            answer(Arc::clone(&kept), Arc::clone(&behaviour), request, body)
        });
        Ok(Self { port, received })
    }

    /// Its URL, with this path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// All that came so far.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        lock(&self.received).clone()
    }

    /// How many deliveries have come, each at least once.
    pub fn deliveries(&self) -> usize {
        distinct(&lock(&self.received)).len()
    }

    /// Waits until at least `count` requests have come.
    pub async fn wait_for(&self, count: usize) -> anyhow::Result<Vec<ReceivedRequest>> {
        until(&format!("{count} requests"), async || {
            let received = self.received();
            Ok((received.len() >= count).then_some(received))
        })
        .await
        .with_context(|| format!("{} came", self.received().len()))
    }
}

/// Serves HTTP on these listeners, in a thread of its own: it answers even while a test blocks.
pub fn serve<F, Fut>(listeners: Vec<TcpListener>, workers: usize, answer: F)
where
    F: Fn(HttpRequest, web::Bytes) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = HttpResponse> + 'static,
{
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let app = move || {
                App::new()
                    .app_data(web::PayloadConfig::new(16 * 1024 * 1024))
                    .default_service(web::to(answer.clone()))
            };
            let mut server = HttpServer::new(app).workers(workers).disable_signals();
            for listener in listeners {
                server = server.listen(listener)?;
            }
            server.run().await
        })
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    kept: Arc<Mutex<Vec<ReceivedRequest>>>,
    behaviour: Arc<ReplyFunction>,
    request: HttpRequest,
    body: web::Bytes,
) -> HttpResponse {
    let received = ReceivedRequest::of(&request, body);
    let reply = {
        let mut kept = lock(&kept);
        let id = received.headers.get("webhook-id");
        let before = kept
            .iter()
            .filter(|other| other.headers.get("webhook-id") == id)
            .count();
        let reply = behaviour(&received, before);
        kept.push(received);
        reply
    };
    tokio::time::sleep(reply.after).await;
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in reply.headers {
        response.insert_header((name, value));
    }
    response.body(reply.body)
}

impl ReceivedRequest {
    /// A request that comes now.
    pub fn of(request: &HttpRequest, body: web::Bytes) -> Self {
        let headers = request.headers().iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        Self {
            at: Instant::now(),
            headers: headers.collect(),
            body,
            path: request.uri().to_string(),
        }
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> anyhow::Result<&str> {
        self.headers
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no header {name}"))
    }

    /// Verifies the request as a receiver would, with an independent implementation.
    pub fn verify(&self, secret: &str) -> anyhow::Result<()> {
        let webhook = webhook(secret)?;
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, self.header(name)?.parse()?);
        }
        webhook.verify(&self.body, &headers)?;
        let plain = self.header("x-webhook-signature")?;
        let lowercase_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        ensure!(
            plain.len() == 64 && plain.bytes().all(lowercase_hex),
            "X-Webhook-Signature is {plain}"
        );
        Ok(())
    }
    /// Verifies the signature without a check of the timestamp's age.
    pub fn verify_at_any_time(&self, secret: &str) -> anyhow::Result<()> {
        let (id, at) = (
            self.header("webhook-id")?,
            self.header("webhook-timestamp")?,
        );
        let expected = webhook(secret)?.sign(id, at.parse()?, &self.body)?;
        let mut signatures = self.header("webhook-signature")?.split(' ');
        ensure!(
            signatures.any(|one| one == expected),
            "it is not {expected}"
        );
        Ok(())
    }
}

/// The different ids of these requests.
pub fn distinct(received: &[ReceivedRequest]) -> HashSet<&str> {
    let ids = received.iter().map(|one| one.header("webhook-id"));
    ids.flatten().collect()
}

fn webhook(secret: &str) -> anyhow::Result<standardwebhooks::Webhook> {
    use standardwebhooks::Webhook;
    Ok(match secret.starts_with("whsec_") {
        true => Webhook::new(secret)?,
        false => Webhook::from_bytes(secret.as_bytes().to_vec())?,
    })
}
