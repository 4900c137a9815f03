//! The daily partitions of the log.

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use hookline_core::timestamp::Timestamp;

use super::Conn;
use crate::error::StoreError;

/// How many days ahead of now have a partition.
const DAYS_AHEAD: i64 = 3;

/// Makes the partitions of today and the days to come. What no partition takes, say because
/// nobody ran for days, goes to the default one.
pub(crate) fn prepare_days(conn: &mut Conn, now: Timestamp) -> Result<(), StoreError> {
    for day in now.unix_day()..=now.unix_day() + DAYS_AHEAD {
        let [from, to] = [day, day + 1].map(|day| Timestamp::of_unix_day(day).unix_micros());
        let made = conn.batch_execute(&format!(
            "CREATE TABLE IF NOT EXISTS attempts_d{day} PARTITION OF attempts FOR VALUES FROM ({from}) TO ({to})"
        ));
        if let Err(why) = made {
            // Two of us at once, or rows of that day in the default partition: either way every
            // row has its place.
            tracing::debug!(day, error = %why, "left the partition of a day unmade");
        }
    }
    Ok(())
}

#[derive(QueryableByName)]
struct Partition {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Drops the partitions of days before `day`, and deletes such rows of the default one.
pub(crate) fn drop_attempts_before(conn: &mut Conn, day: i64) -> Result<(), StoreError> {
    let partitions: Vec<Partition> = diesel::sql_query(
        "SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          WHERE i.inhparent = 'attempts'::regclass",
    )
    .load(conn)?;
    for Partition { name } in partitions {
        let of_day = name
            .strip_prefix("attempts_d")
            .and_then(|number| number.parse::<i64>().ok());
        if of_day.is_some_and(|of_day| of_day < day) {
            conn.batch_execute(&format!("DROP TABLE IF EXISTS {name}"))?;
        }
    }
    diesel::sql_query("DELETE FROM attempts_other WHERE created_at < $1")
        .bind::<BigInt, _>(Timestamp::of_unix_day(day).unix_micros())
        .execute(conn)?;
    Ok(())
}
