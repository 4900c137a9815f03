//! Clients that mean harm: each fault occupies the API with one kind of them while honest clients go on.
//!
//! They have a key of their own: the rate limits of a key apply to them and not to the load.

use std::net::Ipv4Addr;
use std::time::Duration;

use rand::RngExt as _;
use reqwest::header::AUTHORIZATION;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Connections of slow clients. A deployment keeps 4,000.
const SLOW: usize = 200;

/// Clients that send requests as fast as they are answered.
const FAST: usize = 20;

/// Requests that a slow reader sends without reading an answer.
const UNREAD: usize = 20;

/// The pause between two bytes of a slow sender.
const DRIBBLE: Duration = Duration::from_millis(300);

/// The ways in which clients abuse the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Abuse {
    /// They ask for large pages and read nothing.
    SlowReaders,
    /// They send a head a byte at a time.
    SlowSenders,
    /// They guess keys.
    WrongKeys,
    /// They ask for the most expensive pages with a good key, as fast as they are answered.
    KeyAtLimits,
}

impl Abuse {
    /// Every kind of abuse.
    pub const ALL: [Self; 4] = [
        Self::SlowReaders,
        Self::SlowSenders,
        Self::WrongKeys,
        Self::KeyAtLimits,
    ];
}

/// The API that is abused, and a good key.
#[derive(Debug, Clone)]
pub(super) struct AbuseTarget {
    pub(super) port: u16,
    pub(super) key: String,
}

/// Begins. It ends when the set is dropped.
pub(super) fn begin(abuse: Abuse, victim: &AbuseTarget) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    let count = match abuse {
        Abuse::SlowReaders | Abuse::SlowSenders => SLOW,
        Abuse::WrongKeys | Abuse::KeyAtLimits => FAST,
    };
    for _ in 0..count {
        let victim = victim.clone();
        clients.spawn(async move {
            // A connection that the API closes is followed by another one.
            loop {
                let _ = victim.once(abuse).await;
                sleep(DRIBBLE).await;
            }
        });
    }
    clients
}

impl AbuseTarget {
    async fn once(&self, abuse: Abuse) -> anyhow::Result<()> {
        match abuse {
            Abuse::SlowReaders => self.read_nothing().await,
            Abuse::SlowSenders => self.send_slowly().await,
            Abuse::WrongKeys => {
                let guess = format!("hk_{:032x}", rand::rng().random::<u128>());
                self.ask("/v1/webhooks", &guess).await
            }
            Abuse::KeyAtLimits => {
                let worst = "/v1/webhooks/logs/all?limit=100&offset=10000&status=failed";
                self.ask(worst, &self.key).await
            }
        }
    }

    /// Asks until the API closes the connection.
    async fn ask(&self, path: &str, key: &str) -> anyhow::Result<()> {
        let http = hookline_testkit::http::http_client();
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        loop {
            let request = http
                .get(&url)
                .header(AUTHORIZATION, format!("Bearer {key}"));
            request.send().await?.bytes().await?;
        }
    }

    async fn read_nothing(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let request = format!(
            "GET /v1/webhooks/logs/all?limit=100 HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {}\r\n\r\n",
            self.key
        );
        for _ in 0..UNREAD {
            connection.write_all(request.as_bytes()).await?;
        }
        std::future::pending().await
    }

    async fn send_slowly(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let head = b"GET /v1/webhooks HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
        for byte in head.iter().chain(std::iter::repeat(&b'x')) {
            connection.write_all(std::slice::from_ref(byte)).await?;
            sleep(DRIBBLE).await;
        }
        Ok(())
    }

    async fn connect(&self) -> anyhow::Result<TcpStream> {
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await?)
    }
}
