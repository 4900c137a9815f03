//! The log in PostgreSQL: a partition for each day.

use hookline_testkit::dependencies::TestDependencies;

use super::{DAY_MICROS, EVENTS, Rows};

pub(super) async fn fill(dependencies: &TestDependencies, rows: &Rows) -> anyhow::Result<()> {
    // The rows of the deliveries that created the events are not part of the log.
    dependencies
        .sql("DELETE FROM attempts; DELETE FROM attempt_counts")
        .await?;
    for day in rows.days() {
        // The indexes are created after the rows: one index entry per inserted row would take ten minutes.
        let (from, to) = (day * DAY_MICROS, (day + 1) * DAY_MICROS);
        let insert = rows.insert(&format!("attempts_d{day}"), day, "gen_random_uuid()");
        dependencies
            .sql(&format!(
                "CREATE TABLE attempts_d{day} (LIKE attempts);
                 WITH keys AS (SELECT key, row_number() OVER () - 1 AS number FROM events LIMIT {EVENTS})
                 {insert}
                 FROM generate_series(0::bigint, {each} - 1) n JOIN keys ON number = n % {EVENTS};
                 ALTER TABLE attempts ATTACH PARTITION attempts_d{day} FOR VALUES FROM ({from}) TO ({to});
                 INSERT INTO attempt_counts
                 SELECT organization_id, subscription_id, event_type, status, {day}, 0, count(*), max(created_at)
                   FROM attempts_d{day} GROUP BY 1, 2, 3, 4;
                 ANALYZE attempts_d{day}",
                each = rows.each
            ))
            .await?;
    }
    // The state after an autovacuum.
    dependencies.sql("VACUUM attempts").await?;
    Ok(())
}
