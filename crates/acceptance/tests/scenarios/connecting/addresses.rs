//! Names with several addresses. 127.0.0.2 and 127.0.0.3 stand for the world outside, as in
//! `hostile::targets`; 127.0.0.1 is inside, also as an address of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::{Home, Kind};
use hookline_testkit::managed_process::free_port;
use hookline_testkit::name_server::{NameServer, Reply, Said};
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

fn say(name: &str, _: usize) -> Said {
    let at_once = |addresses: &[IpAddr]| Reply::After(Duration::ZERO, addresses.to_vec());
    let after = |millis, addresses: &[IpAddr]| {
        Reply::After(Duration::from_millis(millis), addresses.to_vec())
    };
    match name {
        "two.test" => Said::Addresses(vec![DEAD, LIVE]),
        "refused.test" => Said::Addresses(vec![Ipv4Addr::new(127, 0, 0, 4).into(), LIVE]),
        "no-network.test" => {
            let nowhere = Ipv6Addr::new(0xfd12, 0, 0, 0, 0, 0, 0, 1);
            Said::Addresses(vec![nowhere.into(), LIVE])
        }
        "dead.test" => Said::Addresses(vec![DEAD]),
        "only-a.test" => Said::Apart(at_once(&[LIVE]), Reply::Never),
        "late-aaaa.test" => Said::Apart(at_once(&[LIVE]), Reply::After(TOO_LATE, vec![INSIDE])),
        "slow.test" => Said::Apart(after(2_000, &[LIVE]), after(2_000, &[])),
        "slower-aaaa.test" => Said::Apart(after(2_000, &[LIVE]), after(4_000, &[])),
        "only-aaaa.test" => Said::Apart(Reply::Never, at_once(&[INSIDE])),
        // Its first address hangs, so that the late one is heard of.
        "inside-late.test" => Said::Apart(at_once(&[DEAD, DEAD]), after(600, &[INSIDE])),
        "late-inside.test" => Said::Apart(after(600, &[LIVE]), at_once(&[INSIDE])),
        _ => Said::NoSuchName,
    }
}

struct Stage {
    home: Home,
    port: u16,
    /// Connections to what is inside.
    reached: Arc<AtomicUsize>,
    /// Keeps the dead address from taking another connection.
    _dead: (TcpListener, JoinSet<()>),
}

impl Stage {
    async fn set(kind: Kind) -> anyhow::Result<Self> {
        let names = NameServer::that(say).await?;
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
        let home = Home::start_with(kind, &settings).await?;
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
            home,
            port,
            reached,
            _dead: dead(port)?,
        })
    }

    /// The result of one test request to a name.
    async fn attempt(&self, name: &str) -> anyhow::Result<Value> {
        let tenant = self.home.tenant().await?;
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
        self.home.end().await
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

pub(super) async fn a_name_is_called_when_one_address_of_it_is_dead(
    kind: Kind,
) -> anyhow::Result<()> {
    let stage = Stage::set(kind).await?;
    let entry = stage.attempt("dead.test").await?;
    ensure!(entry["error"]["kind"] == "timeout", "{entry}");
    let took = entry["duration_ms"].as_u64().context("no duration")?;
    ensure!(
        took < 9_000,
        "a connection has no limit of its own: {took} ms"
    );
    for name in ["two.test", "refused.test", "no-network.test"] {
        stage.succeeds(name).await?;
    }
    stage.end().await
}

pub(super) async fn what_a_name_server_says_of_one_family_is_used_without_the_other(
    kind: Kind,
) -> anyhow::Result<()> {
    let stage = Stage::set(kind).await?;
    for name in [
        "only-a.test",
        "late-aaaa.test",
        "slow.test",
        "slower-aaaa.test",
    ] {
        stage.succeeds(name).await?;
    }
    stage.end().await
}

pub(super) async fn an_address_that_comes_late_is_judged_before_it_is_dialled(
    kind: Kind,
) -> anyhow::Result<()> {
    let stage = Stage::set(kind).await?;
    for name in ["only-aaaa.test", "inside-late.test", "late-inside.test"] {
        stage.is_refused(name).await?;
    }
    stage.end().await
}
