//! SSRF protection: production rules, with a name server and a certificate authority of our own. 127.0.0.2 stands
//! for the world outside: the only network that the settings allow. 127.0.0.1 is inside, and a connection that
//! reaches it has got past the protection.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::name_server::{DnsAnswer, NameServer};
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use hookline_testkit::test_ca::{TestCa, Validity, answer, self_signed};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::{first_attempts, outcome_of, subscribe_all};

const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The answers of our name server; a name under `flip.test` changes with each look-up.
fn dns_answer(name: &str, before: usize) -> DnsAnswer {
    let v6 = |text: &str| text.parse().map_or(INSIDE, IpAddr::V6);
    match name {
        "good.test" | "xn--bcher-kva.test" | "other.test" => DnsAnswer::Addresses(vec![OUTSIDE]),
        "alias.test" => DnsAnswer::Alias("good.test", vec![OUTSIDE]),
        "moved.test" if before == 0 => DnsAnswer::Addresses(vec![OUTSIDE]),
        "flip.test" if before.is_multiple_of(2) => DnsAnswer::Addresses(vec![OUTSIDE]),
        "moved.test" | "flip.test" | "inside.test" => DnsAnswer::Addresses(vec![INSIDE]),
        "one-of-two.test" => DnsAnswer::Addresses(vec![OUTSIDE, INSIDE]),
        "one-of-many.test" => {
            let mut many = vec![OUTSIDE; 20];
            many.push(INSIDE);
            DnsAnswer::Addresses(many)
        }
        "inside-alias.test" => DnsAnswer::Alias("inside.test", vec![INSIDE]),
        "six.test" => DnsAnswer::Addresses(vec![OUTSIDE, v6("::1")]),
        "mapped.test" => DnsAnswer::Addresses(vec![v6("::ffff:127.0.0.1")]),
        "compatible.test" => DnsAnswer::Addresses(vec![v6("::127.0.0.1")]),
        "nat64.test" => DnsAnswer::Addresses(vec![v6("64:ff9b::7f00:1")]),
        "6to4.test" => DnsAnswer::Addresses(vec![v6("2002:7f00:1::")]),
        "metadata.test" => DnsAnswer::Addresses(vec![Ipv4Addr::new(169, 254, 169, 254).into()]),
        "unspecified.test" => DnsAnswer::Addresses(vec![Ipv4Addr::UNSPECIFIED.into()]),
        "empty.test" => DnsAnswer::Addresses(Vec::new()),
        "silent.test" => DnsAnswer::Nothing,
        _ => DnsAnswer::NoSuchName,
    }
}

/// Names that lead inside, in part or in turn, or nowhere.
const REFUSED: [&str; 19] = [
    "inside.test",
    "one-of-two.test",
    "one-of-many.test",
    "inside-alias.test",
    "six.test",
    "mapped.test",
    "compatible.test",
    "nat64.test",
    "6to4.test",
    "metadata.test",
    "unspecified.test",
    "empty.test",
    "silent.test",
    "no-such-name.test",
    "localhost",
    "localhost.",
    "LOCALHOST",
    "a.localhost",
    "single",
];

struct Setup {
    deployment: Deployment,
    names: NameServer,
    /// Inside and outside alike.
    port: u16,
    /// Connections that were made to the inside.
    reached: Arc<AtomicUsize>,
    /// Ports outside with TLS: what is shown there, and the kind of error that this is.
    certificates: Vec<(u16, Option<&'static str>)>,
    /// The dispatcher reads it at its start, which may come after the deployment is ready.
    _trusted: NamedTempFile,
}

pub(super) async fn names_and_certificates_are_checked_when_they_are_dialled(
    mode: Mode,
) -> anyhow::Result<()> {
    let setup = Setup::set(mode).await?;
    setup.names_that_lead_outside_are_called().await?;
    setup.names_that_lead_inside_are_refused().await?;
    setup.slow_names_hold_up_nobody().await?;
    setup.what_was_checked_is_what_is_dialled().await?;
    setup.a_redirect_inside_is_not_followed().await?;
    setup.literals_and_ports_are_refused().await?;
    setup.a_certificate_must_hold_for_the_name().await?;
    let reached = setup.reached.load(Ordering::Relaxed);
    ensure!(reached == 0, "the inside was reached {reached} times");
    setup.deployment.end().await
}

impl Setup {
    async fn set(mode: Mode) -> anyhow::Result<Self> {
        let names = NameServer::with(dns_answer).await?;
        let authority = TestCa::new()?;
        let mut trusted = NamedTempFile::new()?;
        trusted.write_all(authority.pem().as_bytes())?;
        let port = free_port()?;
        let shown = [
            (authority.identity("good.test", Validity::Valid)?, None),
            (
                authority.identity("good.test", Validity::Expired)?,
                Some("tls"),
            ),
            (
                authority.identity("other.test", Validity::Valid)?,
                Some("tls"),
            ),
            (self_signed("good.test")?, Some("tls")),
        ];
        let mut ports = vec![443, port];
        let mut certificates = Vec::new();
        for (shown, mode) in shown {
            let port = free_port()?;
            let answer = move |connection| answer(shown.clone(), connection);
            RawReceiver::at(SocketAddr::new(OUTSIDE, port), answer).await?;
            ports.push(port);
            certificates.push((port, mode));
        }
        let ports = format!("{ports:?}");
        let path = trusted.path().to_str().context("a path in UTF-8")?;
        let settings = [
            ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "false"),
            ("HOOKLINE__TARGETS__ALLOW_NETWORKS", r#"["127.0.0.2/32"]"#),
            ("HOOKLINE__TARGETS__PORTS", &ports),
            ("HOOKLINE__TARGETS__NAME_SERVERS", &names.setting()),
            ("HOOKLINE__TARGETS__EXTRA_CA_FILE", path),
            // Most of what is tried here fails, and all of it is to be tried.
            ("HOOKLINE__DISPATCHER__BREAKER_FAILURES", "1000"),
        ];
        let deployment = Deployment::start_with(mode, &settings).await?;
        let reached = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reached);
        RawReceiver::at(SocketAddr::new(INSIDE, port), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .await?;
        // Closes after each answer, so that each request looks its name up.
        RawReceiver::at(SocketAddr::new(OUTSIDE, port), move |mut connection| async move {
            let request = read_request(&mut connection).await?;
            let answer = match request.starts_with(b"POST /redirect") {
                true => format!(
                    "HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n"
                ),
                false => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            Ok(connection.write_all(answer.as_bytes()).await?)
        })
        .await?;
        Ok(Self {
            deployment,
            names,
            port,
            reached,
            certificates,
            _trusted: trusted,
        })
    }

    fn url(&self, name: &str) -> String {
        format!("http://{name}:{}/hook", self.port)
    }

    async fn names_that_lead_outside_are_called(&self) -> anyhow::Result<()> {
        let names = [
            "good.test",
            "good.test.",
            "Good.Test",
            "alias.test",
            "bücher.test",
        ];
        let urls = names.map(|name| self.url(name));
        for entry in first_attempts(&self.deployment, &urls).await? {
            ensure!(
                outcome_of(&entry) == ("success", None, Some(200)),
                "{entry}"
            );
        }
        Ok(())
    }

    /// The log does not tell which of our names exist.
    async fn names_that_lead_inside_are_refused(&self) -> anyhow::Result<()> {
        let urls = REFUSED.map(|name| self.url(name));
        let entries = first_attempts(&self.deployment, &urls).await?;
        let error = &entries[0]["error"];
        for (entry, name) in entries.iter().zip(REFUSED) {
            ensure!(
                outcome_of(entry) == ("failed", Some("dns"), None),
                "{name}: {entry}"
            );
            ensure!(entry["error"] == *error, "{name}: {entry}");
            tells_nothing_of_its_target(entry)?;
        }
        ensure!(
            self.names.look_ups("localhost") == 0,
            "localhost was asked for"
        );
        Ok(())
    }

    async fn slow_names_hold_up_nobody(&self) -> anyhow::Result<()> {
        let tenant = self.deployment.tenant().await?;
        let mut urls = vec![self.url("silent.test"); 50];
        urls.push(self.url("good.test"));
        let subscriptions = subscribe_all(&tenant, &urls).await?;
        let good = subscriptions.last().copied().context("none")?;
        tenant.publish_one("workflow.completed").await?;
        let entry = tenant.client.wait_for_log(good, 1).await?.remove(0);
        // Half of the deadline is the least that the others take.
        let duration = entry["duration_ms"].as_u64().context("no duration")?;
        ensure!(duration < 1_400, "it took {duration} ms");
        Ok(())
    }

    async fn what_was_checked_is_what_is_dialled(&self) -> anyhow::Result<()> {
        let tenant = self.deployment.tenant().await?;
        let urls = ["moved.test", "flip.test"].map(|name| self.url(name));
        let [moved, flip] = subscribe_all(&tenant, &urls).await?[..] else {
            anyhow::bail!("not two subscriptions");
        };
        for count in 1..=20 {
            tenant.publish_one("workflow.completed").await?;
            tenant.client.wait_for_log(moved, count).await?;
            tenant.client.wait_for_log(flip, count).await?;
        }
        let log = tenant.client.log_of(moved).await?;
        ensure!(
            outcome_of(&log[0]) == ("success", None, Some(200)),
            "{}",
            log[0]
        );
        let refused = |entry: &&Value| outcome_of(entry) == ("failed", Some("dns"), None);
        ensure!(log[1..].iter().all(|entry| refused(&entry)), "{log:?}");
        let log = tenant.client.log_of(flip).await?;
        let dialled = log.iter().filter(|entry| !refused(entry));
        let succeeded = dialled.clone().all(|entry| entry["status"] == "success");
        ensure!(succeeded && dialled.count() > 0, "{log:?}");
        ensure!(log.iter().any(|entry| refused(&entry)), "{log:?}");
        ensure!(self.names.look_ups("flip.test") >= 10, "answers were kept");
        Ok(())
    }

    async fn a_redirect_inside_is_not_followed(&self) -> anyhow::Result<()> {
        let url = self.url("good.test").replace("/hook", "/redirect");
        let entry = first_attempts(&self.deployment, &[url]).await?.remove(0);
        ensure!(
            outcome_of(&entry) == ("failed", Some("http_status"), Some(307)),
            "{entry}"
        );
        Ok(())
    }

    async fn literals_and_ports_are_refused(&self) -> anyhow::Result<()> {
        let tenant = self.deployment.tenant().await?;
        let port = self.port;
        let inside = [
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0",
            "[::1]",
        ];
        let mut urls: Vec<String> = inside.iter().map(|host| self.url(host)).collect();
        urls.extend([
            format!("http://[::ffff:127.0.0.1]:{port}/"),
            format!("http://[::ffff:127.0.0.2]:{port}/"),
            "http://good.test:25/".to_owned(),
            "https://good.test:22/".to_owned(),
            "https://127.0.0.2:6379/".to_owned(),
            "https://no-such-name.invalid/".to_owned(),
            "https://{{host}}/".to_owned(),
        ]);
        for url in urls {
            let body = json!({"name": "n", "url": url, "events": ["workflow.failed"]});
            let refused = tenant.client.post("/webhooks", &body).await?.problem(422)?;
            ensure!(refused.bad_fields() == ["url"], "{url}: {}", refused.json);
        }
        let allowed = [
            "http://good.test/",
            "https://good.test/",
            "https://127.0.0.2/",
        ];
        for url in allowed {
            let body = json!({"name": "n", "url": url, "events": ["workflow.failed"]});
            tenant.client.subscribe(&body).await?;
        }
        Ok(())
    }

    async fn a_certificate_must_hold_for_the_name(&self) -> anyhow::Result<()> {
        let url = |(port, _): &(u16, _)| format!("https://good.test:{port}/");
        let urls: Vec<String> = self.certificates.iter().map(url).collect();
        let entries = first_attempts(&self.deployment, &urls).await?;
        for (entry, (_, kind)) in entries.iter().zip(&self.certificates) {
            let status = if kind.is_some() { "failed" } else { "success" };
            let answered = kind.is_none().then_some(200);
            ensure!(outcome_of(entry) == (status, *kind, answered), "{entry}");
            ensure!(entry["remote_address"].is_null(), "loopback: {entry}");
            let times = &entry["timings"];
            ensure!(
                times["dns_ms"].is_u64() && times["connect_ms"].is_u64(),
                "{entry}"
            );
            ensure!(times["tls_ms"].is_u64() == kind.is_none(), "{entry}");
        }
        Ok(())
    }
}

/// Headers, an address or milliseconds would tell an internal name from one that does not exist.
fn tells_nothing_of_its_target(entry: &Value) -> anyhow::Result<()> {
    for field in [
        "request_headers",
        "response_headers",
        "remote_address",
        "timings",
    ] {
        ensure!(entry[field].is_null(), "{field}: {entry}");
    }
    let duration = entry["duration_ms"].as_u64().context("no duration")?;
    ensure!(duration.is_multiple_of(1_000), "{entry}");
    Ok(())
}
