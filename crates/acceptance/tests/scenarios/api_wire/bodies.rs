//! Bodies that are too large, too deep, too slow, or not asked for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::raw_client::RawConnection;
use hookline_testkit::waiting::until;
use reqwest::Method;

use super::{bearer, calls};

const EVENTS: usize = 8 * 1024 * 1024;
const TESTS: usize = 257 * 1024;
const OTHERS: usize = 64 * 1024;

pub(super) async fn a_body_is_limited_on_every_route_that_takes_one(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let key = bearer(&deployment, &tenant).await?;
    let calls = calls(&deployment).await?;
    let taking: Vec<_> = calls.iter().filter(|call| call.takes_a_body).collect();
    ensure!(taking.len() >= 5, "{} take a body", taking.len());
    for call in taking {
        let limit = match call.path.as_str() {
            "/events" => EVENTS,
            path if path.ends_with("/test") => TESTS,
            _ => OTHERS,
        };
        let head = format!(
            "{} {} HTTP/1.1\r\nHost: a\r\n{key}\r\nConnection: close\r\nContent-Type: application/json",
            call.method, call.path
        );
        // It says so, or it does not.
        let with_length = format!("{head}\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let chunked = format!(
            "{head}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
            limit + 1,
            " ".repeat(limit + 1)
        );
        for request in [with_length, chunked] {
            let mut connection = RawConnection::open(&deployment).await?;
            connection.send(request).await;
            let answer = connection.answer().await?.context("no answer")?;
            ensure!(
                answer.status == 413,
                "{} {}: {answer:?}",
                call.method,
                call.path
            );
        }
    }
    Ok(())
}

pub(super) async fn an_unexpected_body_is_ignored(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    let key = bearer(&deployment, &tenant).await?;
    let hidden = "GET /docs HTTP/1.1\r\nHost: a\r\n\r\n";
    for call in calls(&deployment)
        .await?
        .iter()
        // A stream does not end.
        .filter(|call| !call.takes_a_body && !call.path.ends_with("/stream"))
    {
        let mut connection = RawConnection::open(&deployment).await?;
        connection
            .send(format!(
                "{} {} HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Length: {}\r\n\r\n{hidden}\
             GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                call.method,
                call.path,
                hidden.len(),
            ))
            .await;
        // The second may be missing: a server that leaves a body unread may close the connection.
        let statuses = connection.statuses().await?;
        let fine = matches!(statuses[..], [200..=299 | 400..=499] | [200..=299 | 400..=499, 404]);
        ensure!(fine, "{} {}: {statuses:?}", call.method, call.path);
    }
    Ok(())
}

pub(super) async fn json_of_any_depth_is_refused_and_ends_nothing(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let tenant = deployment.tenant().await?;
    for call in calls(&deployment)
        .await?
        .iter()
        .filter(|call| call.takes_a_body)
    {
        let method = Method::from_bytes(call.method.as_bytes())?;
        for depth in [200, 10_000] {
            let arrays = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            let objects = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            let below = format!("{{\"name\":{arrays}}}");
            for body in [arrays, objects, below] {
                let request = tenant.client.request(method.clone(), &call.path);
                let request = request
                    .header("content-type", "application/json")
                    .body(body);
                let answer = tenant.client.send(request).await?;
                let status = answer.status.as_u16();
                ensure!(
                    matches!(status, 400 | 422),
                    "{method} {}, {depth} deep: {status}",
                    call.path
                );
            }
        }
    }
    Ok(())
}

pub(super) async fn the_errors_of_a_body_are_listed_in_at_most_64_kib(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    const KIB: usize = 1024;
    let tenant = deployment.tenant().await?;
    let name = "n".repeat(500);
    let nested = (0..60).fold("1".to_owned(), |inner, _| {
        format!("{{\"{name}\":1,\"{name}\":{inner}}}")
    });
    let twice = format!("{{{}\"a\":1}}", "\"a\":1,".repeat(10_000));
    let unknown: Vec<String> = (0..4_000)
        .map(|index| format!("\"\\u0001{index}\":1"))
        .collect();
    let unknown = format!("{{{}}}", unknown.join(","));
    for body in [nested, twice, unknown] {
        ensure!(
            (50 * KIB..=64 * KIB).contains(&body.len()),
            "{}",
            body.len()
        );
        let request = tenant.client.request(Method::POST, "/webhooks");
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let answer = tenant.client.send(request).await?.problem(422)?;
        let size: usize = answer.header("content-length").parse()?;
        let listed = answer.bad_fields().len();
        ensure!(size <= 64 * KIB && listed <= 100, "{size} bytes, {listed}");
    }
    Ok(())
}

pub(super) async fn one_key_cannot_use_up_the_memory_for_bodies(
    deployment: Arc<Deployment>,
) -> anyhow::Result<()> {
    let (greedy, other) = (deployment.tenant().await?, deployment.tenant().await?);
    let key = bearer(&deployment, &greedy).await?;
    let hold = async || -> anyhow::Result<RawConnection> {
        let mut connection = RawConnection::open(&deployment).await?;
        connection
            .send(format!(
                "POST /events HTTP/1.1\r\nHost: a\r\n{key}\r\nContent-Type: application/json\r\n\
             Content-Length: {EVENTS}\r\n\r\n{}",
                " ".repeat(EVENTS - 1)
            ))
            .await;
        Ok(connection)
    };
    // With the same key, there is then no room but for two bytes; with others there is.
    let client = greedy
        .client
        .with_key(key.strip_prefix("Authorization: Bearer "));
    let event = greedy.event("workflow.started");
    let held = until("a refusal", async || {
        let (first, second) = tokio::join!(hold(), hold());
        let held = [first?, second?];
        // The server does not read the sent bytes at once.
        for _ in 0..40 {
            let answer = client.post("/events", &event).await?;
            if answer.status.as_u16() == 429 {
                return Ok(Some(held));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(None)
    })
    .await?;
    let large = format!(
        "{}{}",
        " ".repeat(EVENTS / 2),
        other.event("workflow.started")
    );
    other.post_bytes(&large, None).await?;
    // The deadline gives the room back.
    for mut connection in held {
        let answer = connection.answer().await?.context("no answer")?;
        // One of them may have come too late for its last bytes itself.
        ensure!(matches!(answer.status, 408 | 429), "{answer:?}");
    }
    until("room again", async || {
        let answer = client.post("/events", &event).await?;
        Ok((answer.status.as_u16() == 202).then_some(()))
    })
    .await
}
