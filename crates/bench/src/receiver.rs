//! The receiver: a separate process that accepts deliveries and records them in a ledger.
//!
//! The path selects the response: `/ok/SUBSCRIPTION`, `/late/MS/SUBSCRIPTION`, `/hangs/SUBSCRIPTION`,
//! `/flaky/SUBSCRIPTION` and `/down/SUBSCRIPTION`. `flaky` refuses the first attempt of one delivery in twenty. `down`
//! refuses every request until `/recover` is called.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use anyhow::Context as _;
use hookline_testkit::receiver::ReceivedRequest;
use hookline_testkit::test_ca::{TestCa, Validity};
use tokio::net::TcpStream;

use crate::event::{Moment, read};
use crate::ledger::ReceiverLedger;

/// The secret of every subscription.
pub const SECRET: &str = "hush";

/// One request in this many has its signature checked.
const SAMPLE: u64 = 50;

/// One delivery in this many to a flaky subscription fails in its first attempt.
const FLAKY: u64 = 20;

/// Longer than any deadline.
const NEVER: Duration = Duration::from_secs(300);

/// The receiver's process.
#[derive(Debug, clap::Args)]
pub struct Receive {
    /// Use TLS, and write the certificate of the authority into this file
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
}

type Kept = web::Data<Mutex<ReceiverLedger>>;

impl Receive {
    /// Prints its port, and serves until the process is killed.
    pub fn run(self) -> anyhow::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let kept = Kept::new(Mutex::default());
        let app = move || {
            App::new()
                .app_data(kept.clone())
                .route("/report", web::get().to(report))
                .route("/taken", web::get().to(taken))
                .route("/reset", web::post().to(reset))
                .route("/recover", web::post().to(recover))
                .route("/{behaviour}/{rest:.*}", web::post().to(take))
        };
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(app)
                .workers(1)
                .backlog(4_096)
                .disable_signals()
                .listen(listener)?;
            let shown = match self.authority {
                None => port,
                Some(file) => end_tls(&file, port).await?,
            };
            println!("{shown}");
            server.run().await.context("the receiver")
        })
    }
}

/// Terminates TLS in front of the receiver at `port`. Returns the port with TLS, and writes the authority's certificate
/// into `file`.
async fn end_tls(file: &Path, port: u16) -> anyhow::Result<u16> {
    let authority = TestCa::new()?;
    std::fs::write(file, authority.pem())?;
    let identity = authority.identity("127.0.0.1", Validity::Valid)?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let shown = listener.local_addr()?.port();
    actix_web::rt::spawn(async move {
        while let Ok((outer, _)) = listener.accept().await {
            let identity = identity.clone();
            actix_web::rt::spawn(async move {
                let mut outer = identity.accept(outer).await?;
                let mut inner = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                outer.get_ref().0.set_nodelay(true)?;
                inner.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut outer, &mut inner).await
            });
        }
    });
    Ok(shown)
}

async fn report(kept: Kept) -> HttpResponse {
    HttpResponse::Ok().json(&lock(&kept).report)
}

async fn taken(kept: Kept) -> HttpResponse {
    HttpResponse::Ok().body(lock(&kept).report.taken.to_string())
}

async fn reset(kept: Kept) -> HttpResponse {
    lock(&kept).reset();
    HttpResponse::Ok().finish()
}

async fn recover(kept: Kept) -> HttpResponse {
    lock(&kept).has_recovered = true;
    HttpResponse::Ok().finish()
}

async fn take(kept: Kept, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let now = Moment::now();
    let mut parts = request.path().trim_start_matches('/').split('/');
    let behaviour = parts.next().unwrap_or_default();
    let number = |part: Option<&str>| {
        part.and_then(|part| part.parse::<u32>().ok())
            .unwrap_or_default()
    };
    let wait = match behaviour {
        "hangs" => NEVER,
        "late" => Duration::from_millis(number(parts.next()).into()),
        _ => Duration::ZERO,
    };
    if behaviour != "hangs"
        && note(
            &mut lock(&kept),
            behaviour,
            number(parts.next()),
            &request,
            &body,
            now,
        )
        .is_err()
    {
        return HttpResponse::InternalServerError().finish();
    }
    if !wait.is_zero() {
        actix_web::rt::time::sleep(wait).await;
    }
    HttpResponse::Ok().finish()
}

/// The receiver refuses the request.
struct Refused;

fn note(
    ledger: &mut ReceiverLedger,
    behaviour: &str,
    subscription: u32,
    request: &HttpRequest,
    body: &web::Bytes,
    now: Moment,
) -> Result<(), Refused> {
    let Ok((event, sent)) = read(body) else {
        ledger.report.wrong += 1;
        return Ok(());
    };
    let is_first = || {
        request
            .headers()
            .get("x-webhook-attempt")
            .is_some_and(|value| value == "1")
    };
    let refuses = match behaviour {
        "flaky" => event % FLAKY == 0 && is_first(),
        "down" => !ledger.has_recovered,
        _ => false,
    };
    if refuses {
        ledger.report.refused += 1;
        return Err(Refused);
    }
    ledger.take(subscription, event, sent, now);
    // Requests of the bare POST loop have no signature.
    if event % SAMPLE == 0 && behaviour != "bare" {
        ledger.report.checked += 1;
        if ReceivedRequest::of(request, body.clone())
            .verify(SECRET)
            .is_err()
        {
            ledger.report.wrong += 1;
        }
    }
    Ok(())
}

fn lock(kept: &Arc<Mutex<ReceiverLedger>>) -> MutexGuard<'_, ReceiverLedger> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
