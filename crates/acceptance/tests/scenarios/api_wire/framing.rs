//! Framing: the begin and the end of a request.

use std::fmt::Write as _;
use std::sync::Arc;

use anyhow::ensure;
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_client::RawConnection;

pub(super) async fn a_head_is_limited_in_bytes_and_headers(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let mut many = String::new();
    for number in 0..5_000 {
        write!(many, "X-{number}: a\r\n")?;
    }
    let heads = [
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\n{many}\r\n"),
        format!(
            "GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n",
            "a".repeat(300_000)
        ),
        format!(
            "GET /healthz?{} HTTP/1.1\r\nHost: a\r\n\r\n",
            "a".repeat(300_000)
        ),
        // And without an end.
        format!("GET /healthz HTTP/1.1\r\nX-A: {}", "a".repeat(300_000)),
        "a".repeat(300_000),
    ];
    for head in heads {
        let mut connection = RawConnection::open(&deployment).await?;
        connection.send(&head).await;
        let statuses = connection.statuses().await?;
        ensure!(
            matches!(statuses[..], [] | [400 | 431]),
            "{}…: {statuses:?}",
            &head[..40]
        );
    }
    Ok(())
}

pub(super) async fn ambiguous_framing_is_refused_as_request_smuggling(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let hidden = "0\r\n\r\nGET /docs HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}", hidden.len());
    for headers in [
        format!("{length}\r\nTransfer-Encoding: chunked"),
        format!("Transfer-Encoding: chunked\r\n{length}"),
        format!("{length}\r\nContent-Length: 5"),
        format!("{length}\r\n{length}\r\nContent-Length: 0"),
        format!("Content-Length: +{}", hidden.len()),
        format!("Content-Length: {}, 5", hidden.len()),
        "Content-Length: -1".to_owned(),
        "Content-Length: 99999999999999999999999".to_owned(),
        "Transfer-Encoding : chunked".to_owned(),
        "Transfer-Encoding: xchunked".to_owned(),
        "Transfer-Encoding: chunked, identity".to_owned(),
        format!("{length}\r\n Transfer-Encoding: chunked"),
        format!("{length}\r\nX-A: a\u{0}b"),
        format!("{length}\r\nX A: a"),
    ] {
        let mut connection = RawConnection::open(&deployment).await?;
        connection
            .send(format!(
                "POST /nowhere HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n{hidden}"
            ))
            .await;
        let statuses = connection.statuses().await?;
        ensure!(
            matches!(statuses[..], [] | [400]),
            "{headers}: {statuses:?}"
        );
    }
    Ok(())
}

pub(super) async fn pipelined_requests_are_answered_in_order(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let mut connection = RawConnection::open(&deployment).await?;
    let mut all = String::new();
    for number in 0..100 {
        let path = ["/healthz", "/nowhere", "/v1/webhooks"][number % 3];
        write!(all, "GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")?;
    }
    all.push_str("GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    connection.send(all).await;
    let statuses = connection.statuses().await?;
    let expected: Vec<u16> = (0..100).map(|number| [200, 404, 401][number % 3]).collect();
    ensure!(
        statuses.len() == 101 && statuses[..100] == expected,
        "{statuses:?}"
    );
    Ok(())
}

pub(super) async fn another_version_of_http_is_refused(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
    ] {
        let mut connection = RawConnection::open(&deployment).await?;
        connection.send(bytes).await;
        let statuses = connection.statuses().await?;
        ensure!(
            matches!(statuses[..], [] | [400 | 408 | 505]),
            "{bytes:?}: {statuses:?}"
        );
    }
    Ok(())
}
