//! Every list finds what a filter matches, whatever the filter: compared with a filter in memory over the whole log.

use std::collections::BTreeMap;

use hookline_core::event_type::EventType;
use hookline_core::filter::{AttemptFacts, Filter, ResponseCodes};
use hookline_core::ids::{DeliveryId, EventId, EventKey, SubscriptionId, WorkflowId};
use hookline_core::outcome::FailureKind;
use hookline_store::{
    AttemptStatus, Delivery, DeliveryQuery, DeliveryStatus, EventQuery, ListedEvent, LogQuery,
    LoggedAttempt, PageStart,
};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, at, on_both, organization};

on_both![every_list_finds_what_a_filter_matches];

const EVENTS: u64 = 60;
const CODES: [u16; 6] = [200, 200, 204, 404, 500, 503];
const TYPES: [EventType; 3] = [
    EventType::WorkflowStarted,
    EventType::WorkflowFailed,
    EventType::StepFailed,
];
const STATES: [&str; 5] = [
    "delivered",
    "delivered",
    "exhausted",
    "skipped",
    "cancelled",
];

/// Pseudo-random numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }

    fn maybe<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(4) == 0).then(|| value(self))
    }
}

fn id(fixture: &Fixture, id: Uuid) -> String {
    match fixture.is_postgres() {
        true => format!("'{id}'"),
        false => format!("x'{}'", id.simple()),
    }
}

/// Events of two organizations, each to its subscriptions, with one to three attempts.
fn fill(fixture: &Fixture, owner: &str, to: &[SubscriptionId], numbers: &mut Numbers) {
    let owned = organization(owner);
    for number in 0..EVENTS {
        let mut sql = String::new();
        let event = EventId::parse(format!("e{number}")).unwrap();
        let key = id(fixture, EventKey::of(&owned, &event).0);
        let name = numbers.one_of(&TYPES);
        // Some are of one time, so that ids order them.
        let created = NOW + i64::try_from(number / 2).unwrap();
        let workflow = numbers.below(5);
        sql.push_str(&format!(
            "INSERT INTO events (key, organization_id, event_id, event_type, body, received_at, workflow_id)
             VALUES ({key}, '{owner}', '{event}', '{name}', '{{}}', {created}, 'w{workflow}');\n"
        ));
        for subscription in to {
            let delivery = DeliveryId::of(&owned, &event, *subscription);
            let attempts = numbers.below(3) + 1;
            let mut last = String::new();
            for attempt in 1..=attempts {
                let code = numbers.one_of(&CODES);
                let (code, kind, status) = match numbers.below(5) {
                    0 => ("NULL".to_owned(), "'timeout'", "failed"),
                    _ if code < 300 => (code.to_string(), "NULL", "success"),
                    _ => (code.to_string(), "'http_status'", "failed"),
                };
                let (took, at) = (
                    numbers.below(50),
                    created + i64::try_from(numbers.below(9) * attempt).unwrap(),
                );
                let attempt_id = id(
                    fixture,
                    Uuid::from_u128(u128::from(numbers.below(u64::MAX))),
                );
                sql.push_str(&format!(
                    "INSERT INTO attempts (id, delivery_id, organization_id, subscription_id, event_key, event_type,
                         attempt, trigger, status, url, response_status, error_kind, duration_ms, created_at)
                     VALUES ({attempt_id}, {}, '{owner}', {subscription}, {key}, '{name}', {attempt}, 'event',
                         '{status}', '', {code}, {kind}, {took}, {at});\n",
                    id(fixture, delivery.0),
                ));
                last = format!("{code}, {kind}, {took}");
            }
            let (state, pending) = match numbers.below(6) {
                0 => ("pending", true),
                _ => (numbers.one_of(&STATES), false),
            };
            let why = if state == "exhausted" {
                "'out_of_attempts'"
            } else {
                "NULL"
            };
            let (due, finished) = match pending {
                true => (created.to_string(), "NULL".to_owned()),
                false => ("NULL".to_owned(), (created + 100).to_string()),
            };
            // A service of the version before writes no type.
            let name = if numbers.below(9) == 0 {
                ""
            } else {
                name.as_str()
            };
            sql.push_str(&format!(
                "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation,
                     generation, attempts, state, due, finished_at, exhausted_reason, created_at, partition, event_type,
                     response_status, error_kind, duration_ms)
                 VALUES ({}, '{owner}', {subscription}, {key}, 'event', {}, 0, {attempts}, '{state}', {due}, {finished},
                     {why}, {created}, 0, '{name}', {last});\n",
                id(fixture, delivery.0),
                numbers.below(2),
            ));
        }
        fixture.sql(&sql);
    }
    fixture.sql(&format!(
        "INSERT INTO attempt_counts (organization_id, subscription_id, event_type, status, day, shard, count, last_at)
         SELECT organization_id, subscription_id, event_type, status, 1, 0, count(*), max(created_at)
           FROM attempts WHERE organization_id = '{owner}' GROUP BY 1, 2, 3, 4"
    ));
}

fn any_filter<S>(numbers: &mut Numbers, to: &[SubscriptionId], statuses: &[S]) -> Filter<S>
where
    S: Clone,
{
    let moment = |numbers: &mut Numbers| at(NOW + i64::try_from(numbers.below(30)).unwrap());
    Filter {
        since: numbers.maybe(moment),
        until: numbers.maybe(moment),
        status: numbers.maybe(|numbers| numbers.one_of(statuses)),
        event_type: numbers.maybe(|numbers| numbers.one_of(&TYPES)),
        subscription: numbers.maybe(|numbers| numbers.one_of(to)),
        event: numbers
            .maybe(|numbers| EventId::parse(format!("e{}", numbers.below(EVENTS))).unwrap()),
        workflow: numbers
            .maybe(|numbers| WorkflowId::parse(format!("w{}", numbers.below(6))).unwrap()),
        response_status: numbers.maybe(|numbers| {
            ResponseCodes::parse(
                numbers.one_of(&["200", "2xx", "5xx", "404", "400-499", "100-999"]),
            )
            .unwrap()
        }),
        error_kind: numbers
            .maybe(|numbers| numbers.one_of(&[FailureKind::Timeout, FailureKind::HttpStatus])),
        attempt: numbers.maybe(|numbers| u32::try_from(numbers.below(3) + 1).unwrap()),
        min_duration_ms: numbers.maybe(|numbers| u32::try_from(numbers.below(50)).unwrap()),
    }
}

/// Reads a list page by page, by cursor. A page is never empty if it is not the last one.
macro_rules! pages {
    ($limit:expr, |$start:ident| $page:expr, $cursor:expr) => {{
        let (mut rows, mut $start) = (Vec::new(), PageStart::Offset(0));
        loop {
            let page = $page.await.unwrap();
            assert_eq!(page.searched, None);
            let full = page.rows.len() == $limit;
            rows.extend(page.rows);
            match rows.last().filter(|_| full) {
                Some(last) => $start = PageStart::Cursor($cursor(last)),
                None => break rows,
            }
        }
    }};
}

const LIMIT: usize = 7;

async fn log(fixture: &Fixture, filter: &Filter<AttemptStatus>) -> Vec<LoggedAttempt> {
    let query = |start| LogQuery {
        organization: organization("a"),
        filter: filter.clone(),
        limit: 7,
        start,
        body_bytes: None,
    };
    let rows = pages!(
        LIMIT,
        |start| fixture.store.log(query(start)),
        |entry: &hookline_store::LogEntry| entry.attempt.cursor()
    );
    rows.into_iter().map(|entry| entry.attempt).collect()
}

async fn deliveries(fixture: &Fixture, filter: &Filter<DeliveryStatus>) -> Vec<Delivery> {
    let query = |start| DeliveryQuery {
        organization: organization("a"),
        filter: filter.clone(),
        limit: 7,
        start,
        body_bytes: None,
    };
    let rows = pages!(
        LIMIT,
        |start| fixture.store.deliveries(query(start)),
        |entry: &hookline_store::DeliveryEntry| entry.delivery.cursor()
    );
    rows.into_iter().map(|entry| entry.delivery).collect()
}

async fn events(fixture: &Fixture, filter: &Filter<DeliveryStatus>) -> Vec<ListedEvent> {
    let query = |start| EventQuery {
        organization: organization("a"),
        filter: filter.clone(),
        limit: 7,
        start,
        body_bytes: Some(1_000_000),
    };
    pages!(
        LIMIT,
        |start| fixture.store.events(query(start)),
        ListedEvent::cursor
    )
}

struct Everything {
    log: Vec<LoggedAttempt>,
    deliveries: Vec<Delivery>,
    events: Vec<ListedEvent>,
    workflows: BTreeMap<EventId, WorkflowId>,
    /// The last attempt of each delivery.
    last: BTreeMap<DeliveryId, LoggedAttempt>,
}

impl Everything {
    async fn read(fixture: &Fixture) -> Self {
        let log = log(fixture, &Filter::default()).await;
        let events = events(fixture, &Filter::default()).await;
        let workflow =
            |event: &ListedEvent| (event.event_id.clone(), event.workflow.clone().unwrap());
        let mut last: BTreeMap<DeliveryId, LoggedAttempt> = BTreeMap::new();
        for attempt in &log {
            let known = last
                .entry(attempt.delivery_id)
                .or_insert_with(|| attempt.clone());
            if attempt.number > known.number {
                *known = attempt.clone();
            }
        }
        Self {
            workflows: events.iter().map(workflow).collect(),
            deliveries: deliveries(fixture, &Filter::default()).await,
            last,
            log,
            events,
        }
    }

    fn attempts(&self, filter: &Filter<AttemptStatus>) -> Vec<LoggedAttempt> {
        let matches =
            |one: &&LoggedAttempt| filter.matches(&one.facts(self.workflows.get(&one.event_id)));
        self.log.iter().filter(matches).cloned().collect()
    }

    fn matches(&self, delivery: &Delivery, filter: &Filter<DeliveryStatus>) -> bool {
        let last = self.last[&delivery.id].facts(self.workflows.get(&delivery.event_id));
        filter.matches(&AttemptFacts {
            created_at: delivery.created_at,
            status: delivery.status,
            event_type: delivery.event_type,
            subscription: delivery.subscription,
            event: &delivery.event_id,
            workflow: last.workflow,
            response_status: last.response_status,
            error_kind: last.error_kind,
            attempt: delivery.attempts_made,
            duration_ms: last.duration_ms,
        })
    }

    fn deliveries(&self, filter: &Filter<DeliveryStatus>) -> Vec<Delivery> {
        let all = self.deliveries.iter();
        all.filter(|one| self.matches(one, filter))
            .cloned()
            .collect()
    }

    fn events(&self, filter: &Filter<DeliveryStatus>) -> Vec<ListedEvent> {
        let of_one = |event: &&ListedEvent| {
            let mut sent = self
                .deliveries
                .iter()
                .filter(|one| one.event_id == event.event_id);
            sent.any(|one| self.matches(one, filter))
        };
        self.events.iter().filter(of_one).cloned().collect()
    }
}

async fn every_list_finds_what_a_filter_matches(fixture: Fixture) {
    let mut numbers = Numbers(19);
    let to = [
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
    ];
    let foreign = fixture.subscribe("b").await.id;
    fill(&fixture, "a", &to, &mut numbers);
    fill(&fixture, "b", &[foreign], &mut numbers);
    let all = Everything::read(&fixture).await;
    let count = |sql: &str| usize::try_from(fixture.number(sql)).unwrap();
    assert_eq!(
        all.log.len(),
        count("SELECT count(*) FROM attempts WHERE organization_id = 'a'")
    );
    assert_eq!(all.deliveries.len(), 2 * all.events.len());
    assert_eq!(all.events.len(), usize::try_from(EVENTS).unwrap());
    assert!(
        all.log
            .is_sorted_by_key(|one| std::cmp::Reverse((one.created_at, one.id)))
    );
    assert!(
        all.events
            .iter()
            .all(|event| event.body.as_ref().unwrap().text.as_ref() == "{}")
    );

    let asked = [to[0], to[1], foreign];
    let mut found = [0; 3];
    for round in 0..400 {
        let filter = any_filter(
            &mut numbers,
            &asked,
            &[AttemptStatus::Success, AttemptStatus::Failed],
        );
        let attempts = log(&fixture, &filter).await;
        assert_eq!(attempts, all.attempts(&filter), "{round}: {filter:?}");
        let statuses = [
            DeliveryStatus::Pending,
            DeliveryStatus::Delivered,
            DeliveryStatus::Exhausted,
            DeliveryStatus::Skipped,
            DeliveryStatus::Cancelled,
        ];
        let filter = any_filter(&mut numbers, &asked, &statuses);
        let sent = deliveries(&fixture, &filter).await;
        assert_eq!(sent, all.deliveries(&filter), "{round}: {filter:?}");
        let received = events(&fixture, &filter).await;
        assert_eq!(received, all.events(&filter), "{round}: {filter:?}");
        for (count, rows) in found
            .iter_mut()
            .zip([attempts.len(), sent.len(), received.len()])
        {
            *count += usize::from(rows > 0);
        }
    }
    assert!(found.iter().all(|count| *count > 20), "{found:?}");
}
