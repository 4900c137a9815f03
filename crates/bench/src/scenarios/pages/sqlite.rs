//! The log in SQLite. The process of the folder is stopped meanwhile, because only one process may write there.

use std::path::Path;

use anyhow::Context as _;
use diesel::connection::SimpleConnection as _;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use hookline_testkit::deployment::{Deployment, Service};

use super::{EVENTS, Rows};

pub(super) async fn fill(deployment: &Deployment, rows: &Rows) -> anyhow::Result<()> {
    deployment.stop(Service::Api).await?;
    let (folder, rows) = (deployment.data_folder(), rows.clone());
    tokio::task::spawn_blocking(move || write(&folder.join("hookline.db"), &rows)).await??;
    deployment.start_service(Service::Api, &[]).await?;
    deployment.wait_ready().await
}

fn write(file: &Path, rows: &Rows) -> anyhow::Result<()> {
    let mut conn = SqliteConnection::establish(file.to_str().context("a path that is UTF-8")?)?;
    // A crash may lose this generated log.
    conn.batch_execute("PRAGMA synchronous = OFF; PRAGMA cache_size = -256000")?;
    // The indexes are created after the rows: row by row, each day would cost more than the one before.
    let (drop, create): (String, String) = sql::<(Text, Text)>(
        "SELECT group_concat('DROP INDEX ' || name, ';'), group_concat(sql, ';')
           FROM sqlite_master WHERE type = 'index' AND tbl_name = 'attempts'",
    )
    .get_result(&mut conn)?;
    conn.batch_execute(&drop)?;
    conn.batch_execute(&format!(
        // The rows of the deliveries that created the events are not part of the log.
        "DELETE FROM attempts; DELETE FROM attempt_counts;
         CREATE TEMP TABLE keys (number INTEGER PRIMARY KEY, key BLOB NOT NULL);
         INSERT INTO keys SELECT row_number() OVER () - 1, key FROM events LIMIT {EVENTS}"
    ))?;
    let each = rows.each;
    for (number, day) in (0..).zip(rows.days()) {
        let insert = rows.insert("attempts", day, "randomblob(16)");
        conn.transaction(|conn| {
            conn.batch_execute(&format!(
                "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers LIMIT {each})
                 {insert}
                 FROM numbers CROSS JOIN keys ON number = n % {EVENTS};
                 INSERT INTO attempt_counts (organization_id, subscription_id, event_type, status, day, shard, count,
                     last_at)
                 SELECT organization_id, subscription_id, event_type, status, {day}, 0, count(*), max(created_at)
                   FROM attempts WHERE rowid > {before} GROUP BY 1, 2, 3, 4",
                before = number * each
            ))
        })?;
    }
    conn.batch_execute(&create)?;
    Ok(())
}
