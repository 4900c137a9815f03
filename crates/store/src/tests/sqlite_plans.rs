//! Tests of SQLite's query plans for each route: an index finds the rows in the order of the result, and each query looks at
//! a bounded number of rows. The tables are larger than a window, so every search has more than one step.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::{InstrumentationEvent, SimpleConnection as _};
use diesel::prelude::*;
use diesel::sql_types::Text;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::StartedBy;
use hookline_core::event_type::{EventType, EventTypes};
use hookline_core::filter::{Filter, ResponseCodes};
use hookline_core::ids::{
    DeliveryId, EventId, EventKey, KeyId, OrganizationId, ReplayId, SubscriptionId, WorkflowId,
};
use hookline_core::outcome::FailureKind;
use hookline_core::partition::Partition;
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use crate::api_keys::KeyHash;
use crate::api_keys::sql::sqlite as api_keys;
use crate::attempts::delivery_details::sqlite as delivery_details;
use crate::attempts::sql::sqlite as attempt_log;
use crate::attempts::totals::sqlite as attempt_totals;
use crate::attempts::{AttemptStatus, LogQuery};
use crate::backend::sqlite::{Conn, migrate};
use crate::deliveries::cancel::sqlite as cancel;
use crate::deliveries::restart::sqlite as restart;
use crate::deliveries::sql::sqlite as deliveries;
use crate::deliveries::{DeliveryQuery, DeliveryStatus};
use crate::error::StoreError;
use crate::events::details::EventSubscriptionsPage;
use crate::events::details::sqlite as event_details;
use crate::events::list::sqlite as event_list;
use crate::events::list::{EventPlan, EventQuery};
use crate::paging::PageStart;
use crate::partitions::sql::sqlite as partitions;
use crate::partitions::{DueQuery, PartitionRange};
use crate::replays::plan::ReplayTimes;
use crate::replays::plan::sqlite as replay_plans;
use crate::replays::sql::sqlite as replays;
use crate::replays::steps::sqlite as replay_steps;
use crate::replays::{NewReplay, ReplayPace, ReplayQuery, ReplayScope, ReplayTarget};
use crate::rollup::sqlite as rollup;
use crate::search::SearchRange;
use crate::stats::current::sqlite as current;
use crate::stats::sql::sqlite as stats;
use crate::stats::{StatsGroupBy, StatsQuery, StatsScope, StatsStep};
use crate::subscriptions::search::sqlite as subscription_search;
use crate::subscriptions::search::{STEP, SubscriptionWindow};
use crate::subscriptions::sql::sqlite as subscriptions;
use crate::tail::removals::sqlite as removals;
use crate::tail::sql::sqlite as tail_pages;
use crate::tail::{LogPlace, sqlite as tail};
use crate::usage::sql::sqlite as usage;

/// More rows than a query may look at.
const ROWS: i64 = 10_100;

/// Tables that grow with use.
const GROWING: [&str; 10] = [
    "events",
    "deliveries",
    "attempts",
    "attempt_counts",
    "attempt_stats",
    "stream_changes",
    "stream_removals",
    "subscriptions",
    "replays",
    "api_keys",
];

#[derive(QueryableByName)]
struct PlanLine {
    #[diesel(sql_type = Text)]
    detail: String,
}

/// A connection, and the statements that it has executed.
struct WatchedConnection {
    conn: Conn,
    executed: Arc<Mutex<BTreeSet<String>>>,
}

impl WatchedConnection {
    fn filled() -> Self {
        let mut conn = Conn::establish(":memory:").unwrap();
        migrate(&mut conn).unwrap();
        let key = EventKey::of(&owner(), &EventId::parse("e").unwrap())
            .0
            .simple();
        conn.batch_execute(&format!(
            "CREATE TEMP TABLE n (n INTEGER PRIMARY KEY);
             WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers LIMIT {ROWS})
             INSERT INTO n SELECT n FROM numbers;
             INSERT INTO subscriptions (organization_id, name, url, events, headers, header_names, is_active, activation,
                 version, failures_from, created_at, updated_at)
             SELECT 'a', 'n', 'https://example.com', 'workflow.failed', x'', '[]', TRUE, 0, n, n, n, n FROM n;
             INSERT INTO events (key, organization_id, event_id, event_type, body, received_at, workflow_id)
             VALUES (x'{key}', 'a', 'e', 'workflow.failed', x'7b7d', 0, 'w');
             INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                 attempts, state, finished_at, created_at, partition)
             SELECT iif(n = 1, zeroblob(16), randomblob(16)), 'a', 1, x'{key}', 'event', 0, 0, 1, 'delivered', n, n, 0
               FROM n;
             INSERT INTO attempts (id, delivery_id, organization_id, subscription_id, event_key, event_type, attempt,
                 trigger, status, url, duration_ms, created_at, recorded_in)
             SELECT randomblob(16), zeroblob(16), 'a', 1, x'{key}', 'workflow.failed', 1, 'event', 'failed', '', 1, n, n
               FROM n;
             INSERT INTO stream_removals (organization_id, day, source, count, last_recorded_in, last_id)
             SELECT 'b', n, 'attempts', 1, n, randomblob(16) FROM n;
             INSERT INTO attempt_counts (organization_id, subscription_id, event_type, status, day, shard, count, last_at)
             SELECT 'a', 1, 'workflow.failed', 'failed', n, 0, 1, n FROM n;
             INSERT INTO attempt_stats (organization_id, subscription_id, width, at, event_type, cell, shard, count)
             SELECT 'a', n % 2, iif(n < 5000, 60, 3600), n, 'workflow.failed', 131072, 0, 1 FROM n"
        ))
        .unwrap();
        let executed = Arc::<Mutex<BTreeSet<String>>>::default();
        let seen = Arc::clone(&executed);
        conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::StartQuery { query, .. } = event {
                let text = query.to_string();
                let (statement, _) = text.split_once(" -- binds").unwrap_or((&text, ""));
                seen.lock().unwrap().insert(statement.trim().to_owned());
            }
        });
        Self { conn, executed }
    }

    /// The errors in the plans of a route's statements.
    fn faults<T>(
        &mut self,
        route: &str,
        work: impl FnOnce(&mut Conn) -> Result<T, StoreError>,
    ) -> Vec<String> {
        self.executed.lock().unwrap().clear();
        work(&mut self.conn).unwrap_or_else(|why| panic!("{route}: {why}"));
        let executed = std::mem::take(&mut *self.executed.lock().unwrap());
        let statements = executed.into_iter().filter(|text| {
            !["BEGIN", "COMMIT", "SAVEPOINT", "RELEASE"]
                .iter()
                .any(|word| text.starts_with(word))
        });
        let mut faults = Vec::new();
        for statement in statements {
            let plan: Vec<PlanLine> = diesel::sql_query(format!("EXPLAIN QUERY PLAN {statement}"))
                .load(&mut self.conn)
                .unwrap();
            for PlanLine { detail } in plan {
                if !is_bounded(&statement, &detail) {
                    faults.push(format!("{route}: {detail}\n    {statement}"));
                }
            }
        }
        faults
    }
}

/// Whether a step of a plan looks at a bounded number of rows.
fn is_bounded(statement: &str, step: &str) -> bool {
    if step.contains("TEMP B-TREE") {
        // It groups the rows of a limited query.
        return statement.contains(") counted");
    }
    let mut words = step.split_whitespace();
    let (Some(how), Some(table)) = (words.next(), words.next()) else {
        return true;
    };
    if !GROWING.contains(&table) {
        return true;
    }
    match how {
        "SCAN" => false,
        // One row; or the first ones in the order of the index; or those of a window.
        "SEARCH" => {
            let bounds = [
                "(rowid=?)",
                "(key=?)",
                "(id=?)",
                "(hash=?)",
                "created_at>?",
                "<(?,",
                ">(?,",
                "AND id=?)",
                "AND source=?)",
                "replays_running",
            ];
            statement.contains("LIMIT") || bounds.iter().any(|bound| step.contains(bound))
        }
        _ => true,
    }
}

fn owner() -> OrganizationId {
    OrganizationId::parse("a").unwrap()
}

const ONE: SubscriptionId = SubscriptionId(1);

fn now() -> Timestamp {
    Timestamp::from_unix_micros(1_000_000)
}

fn middle() -> Cursor {
    Cursor {
        created_at: Timestamp::from_unix_micros(ROWS - 20),
        id: Uuid::nil(),
    }
}

fn everything() -> SearchRange {
    SearchRange::of(None, None)
}

fn steps() -> [(SearchRange, i64); 3] {
    let since = Some(Timestamp::from_unix_micros(5));
    let until = Some(middle().created_at);
    [
        (everything(), 64),
        (everything(), 4_096),
        (SearchRange::of(since, until), 64),
    ]
}

fn log_queries() -> impl Iterator<Item = LogQuery> {
    let statuses = [
        None,
        Some(AttemptStatus::Success),
        Some(AttemptStatus::Failed),
    ];
    let types = [None, Some(EventType::WorkflowFailed)];
    let all = [None, Some(ONE)].into_iter().flat_map(move |subscription| {
        statuses
            .into_iter()
            .flat_map(move |status| types.map(|event_type| (subscription, status, event_type)))
    });
    let of_totals = all.map(|(subscription, status, event_type)| Filter {
        subscription,
        event_type,
        status,
        ..Filter::default()
    });
    of_totals.chain(rare_conditions()).map(|filter| LogQuery {
        organization: owner(),
        filter,
        limit: 51,
        start: PageStart::Offset(0),
        body_bytes: Some(1_000),
    })
}

fn delivery_filters() -> impl Iterator<Item = Filter<DeliveryStatus>> {
    let statuses = [
        None,
        Some(DeliveryStatus::Pending),
        Some(DeliveryStatus::Delivered),
        Some(DeliveryStatus::Skipped),
        Some(DeliveryStatus::Cancelled),
    ];
    let times = [None, Some((5, 10_050))];
    let all = statuses.into_iter().flat_map(move |status| {
        [None, Some(EventType::WorkflowFailed)]
            .into_iter()
            .flat_map(move |event_type| times.map(|times| (status, event_type, times)))
    });
    all.map(|(status, event_type, times)| Filter {
        status,
        event_type,
        since: times.map(|(since, _)| Timestamp::from_unix_micros(since)),
        until: times.map(|(_, until)| Timestamp::from_unix_micros(until)),
        ..Filter::default()
    })
}

fn of_deliveries(filter: Filter<DeliveryStatus>) -> DeliveryQuery {
    DeliveryQuery {
        organization: owner(),
        filter,
        limit: 51,
        start: PageStart::Offset(0),
        body_bytes: Some(1_000),
    }
}

/// Each condition that few indexes know, alone and of one subscription.
fn rare_conditions<S>() -> impl Iterator<Item = Filter<S>> {
    [None, Some(ONE)].into_iter().flat_map(|subscription| {
        let of = move || Filter {
            subscription,
            ..Filter::default()
        };
        [
            Filter {
                event: EventId::parse("e").ok(),
                ..of()
            },
            Filter {
                workflow: WorkflowId::parse("w").ok(),
                ..of()
            },
            Filter {
                response_status: ResponseCodes::parse("5xx").ok(),
                ..of()
            },
            Filter {
                error_kind: Some(FailureKind::Timeout),
                ..of()
            },
            Filter {
                attempt: Some(2),
                min_duration_ms: Some(9),
                ..of()
            },
        ]
    })
}

fn stats_queries() -> impl Iterator<Item = StatsQuery> {
    let groups = [
        None,
        Some(StatsGroupBy::SubscriptionId),
        Some(StatsGroupBy::EventType),
        Some(StatsGroupBy::CodeClass),
    ];
    let types = [None, Some(EventType::WorkflowFailed)];
    let all = [None, Some(ONE)].into_iter().flat_map(move |subscription| {
        types
            .into_iter()
            .flat_map(move |event_type| groups.map(|group_by| (subscription, event_type, group_by)))
    });
    all.map(|(subscription, event_type, group_by)| StatsQuery {
        scope: StatsScope {
            organization: owner(),
            subscription,
            event_type,
        },
        since: Timestamp::from_unix_micros(0),
        until: now(),
        step: StatsStep::Hour,
        group_by,
    })
}

fn scopes() -> Vec<ReplayScope> {
    let scope = |target, event_types, conditions| ReplayScope {
        organization: owner(),
        target,
        filter: ReplayFilter {
            event_types,
            conditions,
            ..ReplayFilter::default()
        },
    };
    let types = EventTypes::new(vec![EventType::WorkflowFailed, EventType::WorkflowStarted]).ok();
    let of_event = Filter {
        event: EventId::parse("e").ok(),
        ..Filter::default()
    };
    let of_workflow = Filter {
        workflow: WorkflowId::parse("w").ok(),
        ..Filter::default()
    };
    let mut scopes = Vec::new();
    for target in [
        ReplayTarget::Organization,
        ReplayTarget::Subscription(ONE),
        ReplayTarget::Missing(ONE),
    ] {
        for conditions in [Filter::default(), of_event.clone(), of_workflow.clone()] {
            scopes.push(scope(target, None, conditions.clone()));
            scopes.push(scope(target, types.clone(), conditions));
        }
    }
    scopes
}

#[test]
fn no_route_reads_a_table_to_its_end() {
    let mut watched = WatchedConnection::filled();
    let mut faults = Vec::new();
    let mut check = |route: &str, work: &dyn Fn(&mut Conn) -> Result<(), StoreError>| {
        faults.extend(watched.faults(route, work));
    };
    check("every route", &|conn| {
        api_keys::access_of(conn, KeyHash::of("k"), now())?;
        api_keys::note_key_use(conn, KeyId(1), now())
    });
    for before in [None, Some(SubscriptionId(500))] {
        check("GET /webhooks", &|conn| {
            let window = SubscriptionWindow {
                limit: 100,
                offset: 10,
                before,
            };
            subscription_search::list(conn, &owner(), window)?;
            subscription_search::candidates(conn, &owner(), before, STEP)?;
            subscription_search::with_ids(conn, &owner(), vec![1, 2])?;
            subscriptions::count(conn, &owner()).map(drop)
        });
    }
    check("GET /webhooks/{id}", &|conn| {
        subscriptions::find(conn, &owner(), ONE).map(drop)
    });
    for query in log_queries() {
        check("GET /webhooks/{id}/logs, /webhooks/logs/all", &|conn| {
            let (_, end) = attempt_totals::sum(conn, &query, None)?;
            attempt_totals::sum(conn, &query, end.as_ref())?;
            let plan = attempt_log::plan(conn, query.clone())?.unwrap();
            for (range, share) in steps() {
                attempt_log::step(conn, &plan, range, share)?;
            }
            let rows = attempt_log::step(conn, &plan, everything(), 64)?.rows;
            attempt_log::entries(conn, &rows, Some(1_000)).map(drop)
        });
    }
    for mut filter in delivery_filters() {
        filter.subscription = Some(ONE);
        check("GET /webhooks/{id}/deliveries, its total", &|conn| {
            let counted = deliveries::count(conn, &of_deliveries(filter.clone()), ONE, None)?;
            assert!(counted.end.is_some());
            Ok(())
        });
    }
    let of_one = delivery_filters().map(|filter| Filter {
        subscription: Some(ONE),
        ..filter
    });
    for filter in delivery_filters().chain(of_one).chain(rare_conditions()) {
        check("GET /webhooks/{id}/deliveries, /deliveries", &|conn| {
            let plan = deliveries::plan(conn, of_deliveries(filter.clone()))?.unwrap();
            for (range, share) in steps() {
                deliveries::step(conn, &plan, range, share)?;
            }
            let rows = deliveries::step(conn, &plan, everything(), 64)?.rows;
            deliveries::entries(conn, &rows, Some(1_000)).map(drop)
        });
    }
    for filter in delivery_filters().chain(rare_conditions()) {
        check("GET /events", &|conn| {
            let plan = EventPlan::of(EventQuery {
                organization: owner(),
                filter: filter.clone(),
                limit: 51,
                start: PageStart::Offset(0),
                body_bytes: Some(1_000),
            });
            for (range, share) in steps() {
                event_list::step(conn, &plan, range, share)?;
            }
            let rows = event_list::step(conn, &plan, everything(), 64)?.rows;
            event_list::entries(conn, &rows, Some(1_000)).map(drop)
        });
    }
    for after in [None, Some(middle())] {
        check("GET /deliveries/{id}", &|conn| {
            delivery_details::find(conn, &owner(), DeliveryId(Uuid::nil()), 51, after).map(drop)
        });
    }
    for after in [None, Some(ONE)] {
        check("GET /events/{event_id}", &|conn| {
            let page = EventSubscriptionsPage { limit: 51, after };
            let id = EventId::parse("e").unwrap();
            event_details::find(conn, &owner(), &id, page).map(drop)
        });
    }
    for scope in scopes() {
        check(
            "POST /replays, /webhooks/{id}/replay and replay-missing",
            &|conn| {
                let times = ReplayTimes {
                    now: now(),
                    made: now(),
                    kept: Duration::from_secs(60),
                };
                let plan = replay_plans::plan(conn, &scope, times)?.unwrap();
                replay_plans::look(conn, &plan, plan.range, plan.share(1_000))?;
                let new = NewReplay {
                    id: ReplayId(Uuid::new_v4()),
                    scope: scope.clone(),
                    expected: 1,
                    max_running: 50,
                };
                replays::start(conn, &new, now())?;
                let later = now().after(Duration::from_secs(1));
                let lease = replay_steps::lease(conn, now(), later)?.unwrap();
                let pace = ReplayPace {
                    per_second: 100,
                    kept: Duration::from_secs(60),
                };
                replay_steps::step(conn, lease, pace, now()).map(drop)
            },
        );
    }
    for subscription in [None, Some(ONE)] {
        for start in [PageStart::Offset(10), PageStart::Cursor(middle())] {
            check("GET /replays", &|conn| {
                let query = ReplayQuery {
                    organization: owner(),
                    subscription,
                    limit: 100,
                    start,
                };
                replays::list(conn, &query).map(drop)
            });
        }
    }
    check("GET, DELETE /replays/{id}", &|conn| {
        replays::find(conn, &owner(), ReplayId(Uuid::nil()))?;
        replays::cancel(conn, &owner(), ReplayId(Uuid::nil()), now()).map(drop)
    });
    check("POST /deliveries/{id}/cancel", &|conn| {
        let id = DeliveryId(Uuid::nil());
        cancel::cancel(conn, &owner(), id, now(), 0).map(drop)
    });
    check("POST /deliveries/{id}/retry", &|conn| {
        let id = DeliveryId(Uuid::nil());
        restart::start(conn, Some(&owner()), id, StartedBy::Retry, now()).map(drop)
    });
    check("a look for due deliveries", &|conn| {
        let into = PartitionRange {
            partition: Partition(0),
            floor: now(),
            limit: 100,
            newest: 8,
        };
        let look = DueQuery {
            partitions: vec![into],
            until: now(),
        };
        partitions::look(conn, &look)?;
        partitions::count_due(conn, now(), 100)?;
        partitions::totals(conn, now())?;
        partitions::refile(conn, 100).map(drop)
    });
    for query in stats_queries() {
        check("GET /stats", &|conn| {
            assert!(stats::series(conn, &query)?.is_some());
            current::numbers(conn, &query.scope, now()).map(drop)
        });
    }
    check("GET /stream", &|conn| {
        let snapshot = Arc::new(tail::snapshot(conn)?);
        let span = snapshot.after(LogPlace::before(ROWS / 2));
        let page = tail_pages::page(conn, &[owner()], &span, 64)?;
        assert_eq!(page.rows.len(), 64);
        removals::after(conn, &owner(), LogPlace::before(0))?;
        api_keys::valid(conn, &[KeyId(1)], now()).map(drop)
    });
    check("retention", &|conn| {
        removals::forget_changes(conn, 1)?;
        assert_eq!(rollup::fold(conn, 100, 1_000)?, 99);
        rollup::forget(conn, 100, 1_000).map(drop)
    });
    check("POST /events", &|conn| usage::of(conn, &owner()).map(drop));
    check("DELETE /webhooks/{id}", &|conn| {
        subscriptions::delete(conn, &owner(), &SubscriptionId(7).into(), now()).map(drop)
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
