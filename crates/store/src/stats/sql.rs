//! Queries of the roll-up.
//!
//! The texts are the same for both databases: SQLite takes `$1` for a name, and numbers names in the order of their first
//! appearance.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::backend::backends;
use crate::error::StoreError;
use crate::rollup::WHOLE_ORGANIZATION;
use crate::stats::series::{RollupSum, StatsSeries, series_of};
use crate::stats::{MOST_ROWS, StatsGroupBy, StatsQuery};

#[derive(QueryableByName)]
struct SumRow {
    #[diesel(sql_type = BigInt)]
    step: i64,
    #[diesel(sql_type = Text)]
    grouped: String,
    #[diesel(sql_type = Integer)]
    cell: i32,
    #[diesel(sql_type = BigInt)]
    total: i64,
    #[diesel(sql_type = BigInt)]
    read: i64,
}

/// The subscriptions of an organization that have rows, with one index search for each.
const SUBSCRIPTIONS: &str = "WITH RECURSIVE found (id) AS (
     SELECT min(subscription_id) FROM attempt_stats WHERE organization_id = $1 AND subscription_id > $2
     UNION ALL
     SELECT (SELECT min(s.subscription_id) FROM attempt_stats s
              WHERE s.organization_id = $1 AND s.subscription_id > found.id)
       FROM found WHERE found.id IS NOT NULL
 ) ";

/// One statement reads minutes and hours, so that it sees each count once while rows are folded.
fn text(query: &StatsQuery, each: &str) -> String {
    let step = query.step.micros();
    let of_each =
        query.scope.subscription.is_none() && query.group_by == Some(StatsGroupBy::SubscriptionId);
    let (before, from) = match of_each {
        true => (SUBSCRIPTIONS, format!("found {each}")),
        false => (
            "",
            "attempt_stats s WHERE s.organization_id = $1 AND s.subscription_id = $2".to_owned(),
        ),
    };
    let grouped = match query.group_by {
        Some(StatsGroupBy::SubscriptionId) => "CAST(s.subscription_id AS TEXT)",
        Some(StatsGroupBy::EventType) => "s.event_type",
        _ => "''",
    };
    format!(
        "{before}SELECT step, grouped, cell, CAST(sum(count) AS BIGINT) AS total, count(*) AS read FROM (
             SELECT s.at - s.at % {step} AS step, {grouped} AS grouped, s.cell, s.count
               FROM {from}
                AND s.width IN (60, 3600) AND s.at >= $3 AND s.at < $4 AND ($5 = '' OR s.event_type = $5)
              LIMIT {}
         ) counted GROUP BY step, grouped, cell",
        MOST_ROWS + 1
    )
}

backends!(
    with {
        own: crate::stats,
    }

    use backend::Conn;

    /// None where it would read too many rows.
    pub(crate) fn series(
        conn: &mut Conn,
        query: &StatsQuery,
    ) -> Result<Option<Vec<StatsSeries>>, StoreError> {
        let scope = &query.scope;
        let subscription = scope.subscription.map_or(WHOLE_ORGANIZATION, |id| id.0);
        let rows: Vec<SumRow> = diesel::sql_query(text(query, own::EACH))
            .bind::<Text, _>(scope.organization.as_str())
            .bind::<BigInt, _>(subscription)
            .bind::<BigInt, _>(query.since.unix_micros())
            .bind::<BigInt, _>(query.until.unix_micros())
            .bind::<Text, _>(scope.event_type_name())
            .load(conn)?;
        if rows.iter().map(|row| row.read).sum::<i64>() > MOST_ROWS {
            return Ok(None);
        }
        let sums = rows.into_iter().map(|row| RollupSum {
            step: row.step,
            group: row.grouped,
            cell: row.cell,
            count: row.total,
        });
        series_of(sums.collect(), query.group_by).map(Some)
    }
);
