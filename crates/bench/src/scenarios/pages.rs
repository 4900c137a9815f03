//! i: pages of a long log, from its newest row to its oldest, each with the exact total.

mod postgres;
mod sqlite;

use std::ops::Range;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use hookline_core::cursor::{self, Cursor};
use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;
use hookline_testkit::deployment::Mode;
use rand::RngExt as _;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::Size;
use crate::measurement::{Goal, Labels, MILLIS, Measurement};
use crate::setup::{Setup, SetupOptions, TYPE};

const ROWS: u64 = 10_000_000;
const DAYS: u64 = 10;
const SUBSCRIPTIONS: u64 = 10;

/// Events. The rows share their bodies.
const EVENTS: u64 = 1_000;

/// One row in this many has another type.
const RARE: u64 = 10_000;
const RARE_TYPE: &str = "workflow.step.failed";

const REQUESTS: usize = 500;

/// The goal for the 99th percentile of a page, in milliseconds.
const MOST: f64 = 10.0;

const DAY_MICROS: u64 = 86_400_000_000;

struct FilledLog {
    setup: Setup,
    rows: Rows,
}

/// The content of the log, the same in both modes.
#[derive(Debug, Clone)]
struct Rows {
    organization: String,
    /// The first subscription; the others have the next numbers.
    subscription: i64,
    first_day: u64,
    /// The rows of each day.
    each: u64,
}

pub(super) async fn run(
    labels: Labels,
    mode: Mode,
    size: Size,
) -> anyhow::Result<Vec<Measurement>> {
    let rows = size.of(ROWS / DAYS / RARE).max(1) * RARE * DAYS;
    let log = fill(mode, rows).await?;
    let rare = rows / RARE;
    let of_one = format!("/webhooks/{}/logs?limit=50", log.rows.subscription);
    let all = "/webhooks/logs/all?limit=50".to_owned();
    let pages = [
        ("organization", all.clone(), rows),
        (
            "organization, of a type",
            format!("{all}&event_type={TYPE}"),
            rows - rare,
        ),
        (
            "organization, of a rare type",
            format!("{all}&event_type={RARE_TYPE}"),
            rare,
        ),
        ("subscription", of_one.clone(), rows / SUBSCRIPTIONS),
        (
            "subscription, of a type",
            format!("{of_one}&event_type={TYPE}"),
            rows / SUBSCRIPTIONS,
        ),
        ("organization, failed", format!("{all}&status=failed"), rare),
    ];
    let mut found = Vec::new();
    for (name, path, total) in pages {
        let millis = log.p99(&path, total).await.context(name)?;
        found.push(labels.to_reach(
            format!("p99, page of {name}"),
            millis,
            MILLIS,
            Goal::AtMost(MOST),
        ));
    }
    log.setup.close().await?;
    Ok(found)
}

/// A log of many days, written directly into the database: the services would need an hour.
async fn fill(mode: Mode, rows: u64) -> anyhow::Result<FilledLog> {
    let setup = Setup::open(mode, SetupOptions::default()).await?;
    let mut ids = Vec::new();
    for number in 0..SUBSCRIPTIONS {
        ids.push(setup.subscribe(&format!("ok/{number}"), TYPE).await?);
    }
    let events = setup.many(0, EVENTS);
    setup.deliver(&events, events.count * SUBSCRIPTIONS).await?;
    let today = Timestamp::from(std::time::SystemTime::now()).unix_day();
    let rows = Rows {
        organization: events.organizations[0].clone(),
        subscription: ids[0],
        first_day: u64::try_from(today)? - DAYS,
        each: rows / DAYS,
    };
    match mode {
        Mode::Distributed => postgres::fill(setup.deployment.dependencies()?, &rows).await?,
        Mode::Standalone => sqlite::fill(&setup.deployment, &rows).await?,
    }
    Ok(FilledLog { setup, rows })
}

impl Rows {
    fn days(&self) -> Range<u64> {
        self.first_day..self.first_day + DAYS
    }

    /// The SQL that inserts rows of a day. The caller appends a `FROM` clause with `n` and the `key` of an event for
    /// each row. `id` is the database's expression for a new id.
    fn insert(&self, table: &str, day: u64, id: &str) -> String {
        let Self {
            organization,
            subscription,
            each,
            ..
        } = self;
        let (from, step) = (day * DAY_MICROS, DAY_MICROS / each);
        format!(
            "INSERT INTO {table} (id, delivery_id, organization_id, subscription_id, event_key, event_type,
                 attempt, trigger, status, url, response_status, response_body, duration_ms, created_at)
             SELECT {id}, {id}, '{organization}', {subscription} + n % {SUBSCRIPTIONS},
                 key, CASE WHEN n % {RARE} = 5 THEN '{RARE_TYPE}' ELSE '{TYPE}' END,
                 1, 'event', CASE WHEN n % {RARE} = 7 THEN 'failed' ELSE 'success' END, 'http://127.0.0.1/ok', 200, 'ok', 3, {from} + n * {step}"
        )
    }
}

impl FilledLog {
    /// The 99th percentile of pages from random positions in the log, in milliseconds.
    async fn p99(&self, path: &str, total: u64) -> anyhow::Result<f64> {
        let mut millis = Vec::with_capacity(REQUESTS);
        let list = self.list_of(path)?;
        for number in 0..REQUESTS {
            let path = match number {
                0 => path.to_owned(),
                _ => format!("{path}&cursor={}", list.text(self.somewhere())),
            };
            let request = self.setup.client.request(Method::GET, &path);
            let begun = Instant::now();
            let answer = self.setup.client.send(request).await?.expect(200)?;
            millis.push(begun.elapsed().as_secs_f64() * 1_000.0);
            ensure!(
                answer.json["total"] == json!(total),
                "of {total}: {}",
                answer.json["total"]
            );
        }
        millis.sort_by(f64::total_cmp);
        Ok(millis[REQUESTS * 99 / 100])
    }

    /// The list of a path, for its cursors.
    fn list_of(&self, path: &str) -> anyhow::Result<cursor::CursorScope> {
        let one = path
            .strip_prefix("/webhooks/")
            .and_then(|rest| rest.split_once("/logs?"));
        let organization = OrganizationId::parse(self.rows.organization.as_str())?;
        Ok(cursor::CursorKind::Attempts.of(&organization, one.map_or("", |(id, _)| id)))
    }

    /// A random position at which a page can end.
    fn somewhere(&self) -> Cursor {
        let micros =
            rand::rng().random_range(0..DAYS * DAY_MICROS) + self.rows.first_day * DAY_MICROS;
        Cursor {
            created_at: Timestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX)),
            id: Uuid::new_v4(),
        }
    }
}
