//! Names with several addresses. 127.0.0.2 and 127.0.0.3 stand for the world outside, as in
//! `hostile::targets`; 127.0.0.1 is inside, also as an address of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Deployment, Mode};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::name_server::{DnsAnswer, FamilyAnswer, NameServer};
use hookline_testkit::raw_receiver::{RawReceiver, read_request};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const LIVE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));
const INSIDE: IpAddr = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());

/// Longer than the patience for any name.
const TOO_LATE: Duration = Duration::from_secs(600);

fn dns_answer(name: &str, _: usize) -> DnsAnswer {
    let at_once = |addresses: &[IpAddr]| FamilyAnswer::After(Duration::ZERO, addresses.to_vec());
    let after = |millis, addresses: &[IpAddr]| {
        FamilyAnswer::After(Duration::from_millis(millis), addresses.to_vec())
    };
    match name {
        "two.test" => DnsAnswer::Addresses(vec![DEAD, LIVE]),
        "refused.test" => DnsAnswer::Addresses(vec![Ipv4Addr::new(127, 0, 0, 4).into(), LIVE]),
        "no-network.test" => {
            let nowhere = Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 1);
            DnsAnswer::Addresses(vec![nowhere.into(), LIVE])
        }
        "dead.test" => DnsAnswer::Addresses(vec![DEAD]),
        "only-a.test" => DnsAnswer::PerFamily(at_once(&[LIVE]), FamilyAnswer::Never),
        "late-aaaa.test" => DnsAnswer::PerFamily(
            at_once(&[LIVE]),
            FamilyAnswer::After(TOO_LATE, vec![INSIDE]),
        ),
        "slow.test" => DnsAnswer::PerFamily(after(2_000, &[LIVE]), after(2_000, &[])),
        "slower-aaaa.test" => DnsAnswer::PerFamily(after(2_000, &[LIVE]), after(4_000, &[])),
        "only-aaaa.test" => DnsAnswer::PerFamily(FamilyAnswer::Never, at_once(&[INSIDE])),
        // Its first address hangs, so that the late one is heard of.
        "inside-late.test" => DnsAnswer::PerFamily(at_once(&[DEAD, DEAD]), after(600, &[INSIDE])),
        "late-inside.test" => DnsAnswer::PerFamily(after(600, &[LIVE]), at_once(&[INSIDE])),
        _ => DnsAnswer::NoSuchName,
    }
}

struct Setup {
    deployment: Deployment,
    port: u16,
    /// Connections to what is inside.
    reached: Arc<AtomicUsize>,
    /// Keeps the dead address from taking another connection.
    _dead: (TcpListener, JoinSet<()>),
}

impl Setup {
    async fn set(mode: Mode) -> anyhow::Result<Self> {
        let names = NameServer::with(dns_answer).await?;
        let port = free_port()?;
        let settings = [
            ("HOOKLINE__TARGETS__ALLOW_PRIVATE_NETWORKS", "false"),
            (
                "HOOKLINE__TARGETS__ALLOW_NETWORKS",
                r#"["127.0.0.2/32","127.0.0.3/32","127.0.0.4/32","fd12::/16"]"#,
            ),
            ("HOOKLINE__TARGETS__PORTS", &format!("[{port}]")),
            ("HOOKLINE__TARGETS__NAME_SERVERS", &names.setting()),
            ("HOOKLINE__DISPATCHER__DEADLINE_SECONDS", "10"),
        ];
        let deployment = Deployment::start_with(mode, &settings).await?;
        RawReceiver::at(SocketAddr::new(LIVE, port), |mut connection| async move {
            read_request(&mut connection).await?;
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            Ok(connection.write_all(answer).await?)
        })
        .await?;
        let reached = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&reached);
        RawReceiver::at((Ipv4Addr::LOCALHOST, port).into(), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { Ok(()) }
        })
        .await?;
        Ok(Self {
            deployment,
            port,
            reached,
            _dead: dead(port)?,
        })
    }

    /// The result of one test request to a name.
    async fn attempt(&self, name: &str) -> anyhow::Result<Value> {
        let tenant = self.deployment.tenant().await?;
        let url = format!("http://{name}:{}/hook", self.port);
        let body = json!({"name": "several", "url": url, "events": ["workflow.completed"]});
        let subscription = tenant.client.subscribe(&body).await?;
        let test = format!("/webhooks/{subscription}/test");
        tenant.client.post(&test, &json!({})).await?.expect(202)?;
        Ok(tenant.client.wait_for_log(subscription, 1).await?.remove(0))
    }

    async fn succeeds(&self, name: &str) -> anyhow::Result<()> {
        let entry = self.attempt(name).await?;
        ensure!(entry["status"] == "success", "{name}: {entry}");
        Ok(())
    }

    async fn is_refused(&self, name: &str) -> anyhow::Result<()> {
        let entry = self.attempt(name).await?;
        ensure!(entry["error"]["kind"] == "dns", "{name}: {entry}");
        Ok(())
    }

    async fn end(self) -> anyhow::Result<()> {
        let reached = self.reached.load(Ordering::Relaxed);
        ensure!(reached == 0, "the inside was reached {reached} times");
        self.deployment.end().await
    }
}

/// An address that drops what it is sent, like a host that is gone: its backlog is full.
fn dead(port: u16) -> anyhow::Result<(TcpListener, JoinSet<()>)> {
    let socket = TcpSocket::new_v4()?;
    let address = SocketAddr::new(DEAD, port);
    socket.bind(address)?;
    let listener = socket.listen(0)?;
    let mut filling = JoinSet::new();
    for _ in 0..4 {
        filling.spawn(async move {
            let connection = tokio::net::TcpStream::connect(address).await;
            std::future::pending::<()>().await;
            drop(connection);
        });
    }
    Ok((listener, filling))
}

pub(super) async fn a_host_is_reached_when_one_of_its_addresses_is_dead(
    mode: Mode,
) -> anyhow::Result<()> {
    let setup = Setup::set(mode).await?;
    let entry = setup.attempt("dead.test").await?;
    ensure!(entry["error"]["kind"] == "timeout", "{entry}");
    let duration = entry["duration_ms"].as_u64().context("no duration")?;
    ensure!(
        duration < 9_000,
        "a connection has no limit of its own: {duration} ms"
    );
    for name in ["two.test", "refused.test", "no-network.test"] {
        setup.succeeds(name).await?;
    }
    setup.end().await
}

pub(super) async fn a_dns_answer_for_one_address_family_is_used_without_the_other(
    mode: Mode,
) -> anyhow::Result<()> {
    let setup = Setup::set(mode).await?;
    for name in [
        "only-a.test",
        "late-aaaa.test",
        "slow.test",
        "slower-aaaa.test",
    ] {
        setup.succeeds(name).await?;
    }
    setup.end().await
}

pub(super) async fn an_address_resolved_late_is_checked_before_it_is_dialled(
    mode: Mode,
) -> anyhow::Result<()> {
    let setup = Setup::set(mode).await?;
    for name in ["only-aaaa.test", "inside-late.test", "late-inside.test"] {
        setup.is_refused(name).await?;
    }
    setup.end().await
}
