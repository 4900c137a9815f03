//! How the server finds due deliveries while many are due, by the plan that a connection keeps.

use std::io::Write as _;

use diesel::connection::SimpleConnection as _;

use super::super::constraints::migrated;
use super::*;
use crate::records::LookInto;

const BACKLOG: usize = 100_000;

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    text: String,
}

/// The plan of a look into all partitions for 100 deliveries each that are due at `since` or later, as it was executed.
fn plan(conn: &mut Conn, since: i64) -> String {
    let into = |number| LookInto {
        partition: Partition(number),
        floor: Timestamp::from_unix_micros(since),
        limit: 100,
    };
    let look = Look {
        partitions: Partitions::DEFAULT.all().map(|one| into(one.0)).collect(),
        until: Timestamp::from_unix_micros(i64::MAX),
    };
    let statement = diesel::debug_query::<diesel::pg::Pg, _>(&looking(&look)).to_string();
    let (text, _) = statement.split_once(" -- binds").unwrap();
    let all = "ARRAY(SELECT generate_series(0, 63)),";
    let same = |value: i64| format!("array_fill({value}::bigint, '{{64}}')");
    conn.batch_execute(&format!(
        "DEALLOCATE ALL; PREPARE look (int[], bigint[], bigint[], bigint[]) AS {text}"
    ))
    .unwrap();
    let explained = format!(
        "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) EXECUTE look ({all} {}, {}, {})",
        same(since),
        same(i64::MAX),
        same(100)
    );
    let lines: Vec<Line> = diesel::sql_query(explained).load(conn).unwrap();
    let lines: Vec<String> = lines.into_iter().map(|line| line.text).collect();
    lines.join("\n")
}

fn assert_searches_each_partition(plan: &str) {
    assert!(plan.contains("Index Scan using deliveries_due"), "{plan}");
    assert!(plan.contains("loops=64"), "{plan}");
    for bad in ["Sort", "Bitmap", "Seq Scan on deliveries", "rows=101"] {
        assert!(!plan.contains(bad), "{bad}: {plan}");
    }
}

/// Not by a macro, whose output is kept back: these figures are to be seen.
fn show(what: &str, plan: &str) {
    let figures: Vec<&str> = plan
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("Execution Time") || line.starts_with("Buffers"))
        .collect();
    let (buffers, time) = (figures.first(), figures.last());
    let figure = format!("look at {BACKLOG} due, {what}: {buffers:?} {time:?}\n");
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
fn a_look_is_a_search_of_the_index_for_each_partition_however_many_are_due() {
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
    let quiet = plan(&mut conn, 0);
    show("statistics of quiet times", &quiet);
    assert_searches_each_partition(&quiet);
    conn.batch_execute("ANALYZE deliveries").unwrap();
    let known = plan(&mut conn, 0);
    show("statistics of the backlog", &known);
    assert_searches_each_partition(&known);

    // Beside a transaction that is open, no entry of a delivered row leaves the index.
    let mut open = migrated_beside(&mut conn);
    open.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM deliveries")
        .unwrap();
    let half = BACKLOG / 2;
    conn.batch_execute(&format!(
        "UPDATE deliveries SET state = 'delivered', due = NULL WHERE due <= {half}; VACUUM deliveries"
    ))
    .unwrap();
    for (what, floor) in [("without a floor", 0), ("from the floor", half + 1)] {
        let beside = plan(&mut conn, i64::try_from(floor).unwrap());
        show(
            &format!("{half} delivered beside an open transaction, {what}"),
            &beside,
        );
        assert_searches_each_partition(&beside);
    }
}

/// Another session of the same database.
fn migrated_beside(conn: &mut Conn) -> Conn {
    let name: Line = diesel::sql_query("SELECT current_database()::text AS \"QUERY PLAN\"")
        .get_result(conn)
        .unwrap();
    let server = std::env::var("HOOKLINE_TEST_POSTGRES").unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    Conn::establish(&format!("{base}/{}", name.text)).unwrap()
}

#[test]
fn the_migration_files_what_is_pending_and_rewrites_no_table() {
    const UP: &str =
        include_str!("../../../migrations/postgres/2026-11-30-000140_partitions/up.sql");
    const DOWN: &str =
        include_str!("../../../migrations/postgres/2026-11-30-000140_partitions/down.sql");
    let mut conn = migrated();
    conn.batch_execute(DOWN).unwrap();
    conn.batch_execute(
        "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                                 attempts, state, due, created_at)
         SELECT gen_random_uuid(), 'a', n, gen_random_uuid(), 'event', 0, 0, 0, 'pending',
                CASE WHEN n % 2 = 0 THEN n END, n
           FROM generate_series(1, 200) n",
    )
    .unwrap();
    let file = "SELECT relfilenode::bigint AS count FROM pg_class WHERE relname = 'deliveries'";
    let misplaced = "SELECT count(*) AS count FROM deliveries
                      WHERE partition <> CASE WHEN due IS NULL THEN -1 ELSE subscription_id % 64 END";
    let number = |conn: &mut Conn, sql| -> i64 {
        let found: Count = diesel::sql_query(sql).get_result(conn).unwrap();
        found.count
    };
    let before = number(&mut conn, file);
    conn.transaction(|conn| conn.batch_execute(UP)).unwrap();
    assert_eq!(number(&mut conn, file), before);
    assert_eq!(number(&mut conn, misplaced), 0);
}
