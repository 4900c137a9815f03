//! How the server finds due deliveries while many are due, by the plan that a connection keeps.

use std::io::Write as _;

use diesel::connection::SimpleConnection as _;

use hookline_core::ids::SubscriptionId;

use super::*;
use crate::backend::postgres::constraints::{beside, migrated};
use crate::backlog::postgres::{LIST, list, reading};
use crate::backlog::{BacklogClass, BacklogRead};
use crate::partitions::PartitionRange;

const BACKLOG: usize = 100_000;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    text: String,
}

/// The plan of a statement that a connection keeps, as it was executed.
fn plan(conn: &mut Conn, statement: &BulkStatement<'_>, types: &str, values: &str) -> String {
    let text = diesel::debug_query::<diesel::pg::Pg, _>(statement).to_string();
    let (text, _) = text.split_once(" -- binds").unwrap();
    conn.batch_execute(&format!("DEALLOCATE ALL; PREPARE kept ({types}) AS {text}"))
        .unwrap();
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) EXECUTE kept ({values})");
    let lines: Vec<Line> = diesel::sql_query(explain).load(conn).unwrap();
    let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
    lines.join("\n")
}

/// The plan of the query that reads, from each partition, 100 deliveries that are due at `since` or later.
fn plan_of_look(conn: &mut Conn, since: i64) -> String {
    let end = Timestamp::from_unix_micros(i64::MAX);
    let into = |partition| PartitionRange {
        partition,
        floor: Timestamp::from_unix_micros(since),
        limit: 100,
        newest: 8,
    };
    let look = DueQuery {
        partitions: Partitions::DEFAULT.all().map(into).collect(),
        until: end,
    };
    let all: Vec<String> = (0..64).map(|number: u8| number.to_string()).collect();
    let same = |value: i64| format!("array_fill({value}::bigint, '{{64}}')");
    let values = [
        format!("'{{{}}}'", all.join(",")),
        same(since),
        same(end.unix_micros()),
        same(100),
        same(8),
    ];
    plan(
        conn,
        &looking(&look),
        "int[], bigint[], bigint[], bigint[], bigint[]",
        &values.join(", "),
    )
}

/// The plan of a count of due deliveries, up to 1,000.
fn plan_of_count(conn: &mut Conn) -> String {
    let end = Timestamp::from_unix_micros(i64::MAX);
    let values = format!("'{{0}}', '{{{}}}', '{{1000}}'", end.unix_micros());
    let types = "bigint[], bigint[], bigint[]";
    plan(conn, &counting(end, 1_000), types, &values)
}

fn assert_searches(plan: &str, expected: &[&str]) {
    for part in expected {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    for part in ["Sort", "Bitmap", "Seq Scan"] {
        assert!(!plan.contains(part), "{part}: {plan}");
    }
}

const LOOK: [&str; 3] = [
    "Index Scan using deliveries_due",
    "Index Cond: ((partition =",
    "loops=64",
];

const COUNT: [&str; 2] = ["Index Only Scan using deliveries_due", "rows=1000 loops=1"];

/// Writes to stderr directly: the test harness captures the output of macros, and these figures must stay visible.
fn show(what: &str, plan: &str) {
    let figures: Vec<&str> = plan
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("Execution Time") || line.starts_with("Buffers"))
        .collect();
    let (buffers, time) = (figures.first(), figures.last());
    let figure = format!("{BACKLOG} due, {what}: {buffers:?} {time:?}\n");
    std::io::stderr().write_all(figure.as_bytes()).unwrap();
}

fn insert(conn: &mut Conn, count: usize, state: &str, due: &str) {
    conn.batch_execute(&format!(
        "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                                 attempts, state, due, created_at, partition)
         SELECT gen_random_uuid(), 'a', n, gen_random_uuid(), 'event', 0, 0, 0, '{state}', {due}, n, n % 64
           FROM generate_series(1, {count}) n"
    ))
    .unwrap();
}

#[test]
fn due_deliveries_are_found_by_their_index_however_many_there_are() {
    let mut conn = migrated();
    conn.batch_execute(
        "ALTER TABLE deliveries SET UNLOGGED; ALTER TABLE deliveries SET (autovacuum_enabled = false);
         SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan",
    )
    .unwrap();
    // Statistics of quiet times: nothing is due.
    insert(&mut conn, 10_000, "delivered", "NULL");
    conn.batch_execute("ANALYZE deliveries").unwrap();
    insert(&mut conn, BACKLOG, "pending", "n");
    for what in ["of quiet times", "of the backlog"] {
        let look = plan_of_look(&mut conn, 0);
        show(&format!("statistics {what}, look"), &look);
        assert_searches(&look, &LOOK);
        let count = plan_of_count(&mut conn);
        show(&format!("statistics {what}, count"), &count);
        assert_searches(&count, &COUNT);
        conn.batch_execute("ANALYZE deliveries").unwrap();
    }

    // Beside a transaction that is open, no entry of a delivered row leaves the index.
    let mut open = beside(&mut conn);
    open.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM deliveries")
        .unwrap();
    let half = BACKLOG / 2;
    conn.batch_execute(&format!(
        "UPDATE deliveries SET state = 'delivered', due = NULL WHERE due <= {half}"
    ))
    .unwrap();
    conn.batch_execute("VACUUM deliveries").unwrap();
    let beside = format!("{half} delivered beside an open transaction");
    for (what, floor) in [("without a floor", 0), ("from the floor", half + 1)] {
        let look = plan_of_look(&mut conn, i64::try_from(floor).unwrap());
        show(&format!("{beside}, look {what}"), &look);
        assert_searches(&look, &LOOK);
    }
    show(&format!("{beside}, count"), &plan_of_count(&mut conn));
}

/// The plan of a read of 300 backlogs, 10 rows each, behind the position of a delivery that is due at `after`.
fn plan_of_reading(conn: &mut Conn, after: usize) -> String {
    let reads: Vec<BacklogRead> = (0..300)
        .map(|number| BacklogRead {
            partition: Partition(number % 64),
            subscription: SubscriptionId(number.into()),
            class: BacklogClass::Live,
            after: None,
            limit: 10,
        })
        .collect();
    let all = |of: fn(u32) -> u32| -> String {
        let all: Vec<String> = (0..300).map(|number| of(number).to_string()).collect();
        format!("'{{{}}}'", all.join(","))
    };
    let same = |value: &str, kind: &str| format!("array_fill({value}::{kind}, '{{300}}')");
    let end = i64::MAX.to_string();
    let values = [
        all(|number| number % 64),
        all(|number| number),
        same("1", "smallint"),
        same(&after.to_string(), "bigint"),
        same("'00000000-0000-0000-0000-000000000000'", "uuid"),
        same(&end, "bigint"),
        same("10", "bigint"),
    ];
    let now = Timestamp::from_unix_micros(i64::MAX);
    plan(
        conn,
        &reading(&reads, now),
        "int[], bigint[], smallint[], bigint[], uuid[], bigint[], bigint[]",
        &values.join(", "),
    )
}

#[test]
fn backlog_is_read_and_listed_by_its_index_however_much_there_is() {
    let mut conn = migrated();
    conn.batch_execute(
        "ALTER TABLE deliveries SET UNLOGGED; ALTER TABLE deliveries SET (autovacuum_enabled = false);
         SET jit = off; SET plan_cache_mode = force_generic_plan",
    )
    .unwrap();
    // Statistics of quiet times: there is no backlog.
    insert(&mut conn, 10_000, "delivered", "NULL");
    conn.batch_execute("ANALYZE deliveries").unwrap();
    // The last one of 300 subscriptions has nearly all deliveries.
    conn.batch_execute(&format!(
        "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                                 attempts, state, due, created_at, partition, backlog)
         SELECT gen_random_uuid(), 'a', s, gen_random_uuid(), 'event', 0, 0, 0, 'pending', n, n, s % 64, 1
           FROM (SELECT n, CASE WHEN n < 5000 THEN n % 300 ELSE 299 END s FROM generate_series(1, {BACKLOG}) n) rows"
    ))
    .unwrap();
    for what in ["of quiet times", "of the backlog"] {
        for after in [0, BACKLOG / 2] {
            let plan = plan_of_reading(&mut conn, after);
            show(
                &format!("statistics {what}, 300 backlogs read after {after}"),
                &plan,
            );
            assert_searches(
                &plan,
                &[
                    "Index Scan using deliveries_backlog",
                    "ROW(due, id) > ROW(",
                    "loops=300",
                ],
            );
        }
        let listed = list(&mut conn, None).unwrap();
        assert_eq!(listed.len(), 300);
        let explain = format!(
            "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {}",
            LIST.replace("$1", "-1")
                .replace("$2", "0")
                .replace("$3", "0::smallint")
                .replace("$4", "1000")
        );
        let lines: Vec<Line> = diesel::sql_query(explain).load(&mut conn).unwrap();
        let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
        let plan = lines.join("\n");
        show(&format!("statistics {what}, list"), &plan);
        assert_searches(
            &plan,
            &["Index Only Scan using deliveries_backlog", "loops=300"],
        );
        conn.batch_execute("ANALYZE deliveries").unwrap();
    }
}
