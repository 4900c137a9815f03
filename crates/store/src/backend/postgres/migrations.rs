//! Migrations, beside services of the version before.

use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_migrations::MigrationHarness as _;

use super::{Conn, MIGRATIONS, suitability};
use crate::error::StoreError;

/// The advisory lock of migrations: of two processes that start at once, one waits.
const MIGRATION_LOCK: i64 = 0x686f_6f6b_6c69_6e65;

/// The time between two attempts to get the lock.
const LOCK_EVERY: Duration = Duration::from_millis(200);

/// Indexes whose build by a migration was interrupted. Such an index is never read, and its name is taken.
const INTERRUPTED: &str = r"
SELECT idx.oid::regclass::text AS name
  FROM pg_index i JOIN pg_class idx ON idx.oid = i.indexrelid
 WHERE NOT i.indisvalid AND idx.relkind = 'i' AND idx.relnamespace = 'public'::regnamespace
   AND idx.relname !~ '_cc(new|old)[0-9]*$'";

#[derive(QueryableByName)]
struct LockRow {
    #[diesel(sql_type = Bool)]
    is_taken: bool,
}

#[derive(QueryableByName)]
struct IndexRow {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Brings the schema up to date.
pub(crate) fn run(conn: &mut Conn) -> Result<(), StoreError> {
    suitability::check_encoding(conn)?;
    suitability::check_versions(conn)?;
    // A migration takes longer than other statements. Those that lock a table set a timeout of their own.
    conn.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0")?;
    take_lock(conn)?;
    let migrated = drop_interrupted_indexes(conn).and_then(|()| {
        conn.run_pending_migrations(MIGRATIONS)
            .map(drop)
            .map_err(|why| StoreError::Refused(why.to_string()))
    });
    conn.batch_execute(&format!(
        "SELECT pg_advisory_unlock({MIGRATION_LOCK}); RESET statement_timeout; RESET lock_timeout"
    ))?;
    migrated
}

/// Asks again and again: a statement that waits would hold up `CREATE INDEX CONCURRENTLY` of the process with the lock.
fn take_lock(conn: &mut Conn) -> Result<(), StoreError> {
    let query = format!("SELECT pg_try_advisory_lock({MIGRATION_LOCK}) AS is_taken");
    loop {
        let LockRow { is_taken } = diesel::sql_query(&query).get_result(conn)?;
        if is_taken {
            return Ok(());
        }
        std::thread::sleep(LOCK_EVERY);
    }
}

fn drop_interrupted_indexes(conn: &mut Conn) -> Result<(), StoreError> {
    let interrupted: Vec<IndexRow> = diesel::sql_query(INTERRUPTED).load(conn)?;
    for IndexRow { name } in interrupted {
        tracing::info!(index = name, "removing an index that was not completed");
        conn.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use diesel::sql_types::{BigInt, Binary};

    use super::super::constraints::{beside, created, migrated};
    use super::*;

    #[derive(QueryableByName)]
    struct CountRow {
        #[diesel(sql_type = BigInt)]
        count: i64,
    }

    fn count(conn: &mut Conn, sql: &str) -> i64 {
        let CountRow { count } = diesel::sql_query(format!("SELECT count(*) AS count {sql}"))
            .get_result(conn)
            .unwrap();
        count
    }

    #[test]
    fn services_of_the_version_before_go_on_while_a_migration_waits_for_a_table() {
        let mut conn = created();
        conn.run_next_migration(MIGRATIONS).unwrap();
        conn.batch_execute(
            "INSERT INTO events (key, organization_id, event_id, event_type, body, received_at)
             SELECT gen_random_uuid(), 'o', 'e' || n, 'workflow.failed',
                    convert_to('{\"event_id\":\"e\",\"workflow_id\":\"w' || n % 10 || '\",\"organization_id\":\"o\"}', 'UTF8'), n
               FROM generate_series(1, 2500) AS n;
             INSERT INTO deliveries (id, organization_id, subscription_id, event_key, partition, origin, activation,
                                     generation, attempts, state, created_at)
             SELECT gen_random_uuid(), 'o', 1, key, 0, 'event', 0, 0, 0, 'pending', 0 FROM events",
        )
        .unwrap();
        let mut reader = beside(&mut conn);
        let mut service = beside(&mut conn);
        reader
            .batch_execute("BEGIN; SELECT count(*) FROM events")
            .unwrap();
        let migration = std::thread::spawn(move || {
            run(&mut conn).unwrap();
            conn
        });
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(4) {
            let sent = Instant::now();
            assert_eq!(count(&mut service, "FROM events"), 2_500);
            assert!(sent.elapsed() < Duration::from_secs(3));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(!migration.is_finished());
        reader.batch_execute("COMMIT").unwrap();
        let mut conn = migration.join().unwrap();
        let of_a_workflow = "FROM events WHERE workflow_id = 'w3'";
        assert_eq!(count(&mut conn, of_a_workflow), 250);
        let of_a_type = "FROM deliveries WHERE event_type = 'workflow.failed'";
        assert_eq!(count(&mut conn, of_a_type), 2_500);
    }

    #[test]
    fn an_interrupted_index_is_built_again() {
        let mut conn = migrated();
        conn.batch_execute(
            "INSERT INTO events (key, organization_id, event_id, event_type, body, received_at)
             SELECT gen_random_uuid(), 'o', 'e' || n, 'workflow.failed', '', 0 FROM generate_series(1, 2) AS n;
             DROP INDEX events_by_type;
             DELETE FROM __diesel_schema_migrations WHERE version = '20261202000013'",
        )
        .unwrap();
        conn.batch_execute(
            "CREATE UNIQUE INDEX CONCURRENTLY events_by_type ON events (organization_id, event_type)",
        )
        .unwrap_err();
        let invalid =
            "FROM pg_index WHERE indexrelid = 'events_by_type'::regclass AND NOT indisvalid";
        assert_eq!(count(&mut conn, invalid), 1);
        run(&mut conn).unwrap();
        let valid = "FROM pg_index WHERE indexrelid = 'events_by_type'::regclass AND indisvalid";
        assert_eq!(count(&mut conn, valid), 1);
    }

    #[test]
    fn of_two_processes_that_migrate_at_once_one_waits() {
        let mut conn = created();
        let mut other = beside(&mut conn);
        let migration = std::thread::spawn(move || run(&mut other));
        run(&mut conn).unwrap();
        migration.join().unwrap().unwrap();
        suitability::check(&mut conn).unwrap();
    }

    #[test]
    fn workflow_ids_are_filled_in_whatever_the_data_of_an_event_is() {
        let mut conn = migrated();
        for body in crate::tests::bodies_to_migrate() {
            let insert =
                "INSERT INTO events (key, organization_id, event_id, event_type, body, received_at)
                 VALUES (gen_random_uuid(), 'o', 'e', 'workflow.failed', $1, 0)";
            diesel::sql_query(insert)
                .bind::<Binary, _>(body.as_bytes())
                .execute(&mut conn)
                .unwrap();
        }
        conn.batch_execute(
            "DELETE FROM __diesel_schema_migrations WHERE version = '20261202000011'",
        )
        .unwrap();
        run(&mut conn).unwrap();
        let filled = count(&mut conn, "FROM events WHERE workflow_id = 'w\"1'");
        assert_eq!(filled, 3);
    }
}
