//! Totals of the log. Counts by day are kept with the attempts, so that a page does not count rows.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};

use crate::attempts::LogQuery;
use crate::backend::backends;
use crate::error::StoreError;
use crate::paging::COUNTED;
use crate::schema::attempt_counts;

/// A row of the totals, in the order of their primary key.
pub(crate) type CountPlace = (i64, String, String, i64, i32);

/// Narrows a query over totals to an organization or a subscription, from one place to another in the order of the
/// primary key.
macro_rules! counted {
    ($query:expr, $after:expr, $last:expr) => {{
        let (query, after, last): (&LogQuery, Option<&CountPlace>, Option<&CountPlace>) =
            ($query, $after, $last);
        let mut counts = attempt_counts::table
            .filter(attempt_counts::organization_id.eq(query.organization.as_str()))
            .into_boxed();
        if let Some(subscription) = query.filter.subscription {
            counts = counts.filter(attempt_counts::subscription_id.eq(subscription.0));
        }
        for (compared, place) in [(">", after), ("<=", last)] {
            let Some((subscription, event_type, status, day, shard)) = place.cloned() else {
                continue;
            };
            let rest = "event_type, status, day, shard";
            counts = match query.filter.subscription {
                // The subscription is fixed, so the order begins after it.
                Some(_) => counts.filter(
                    sql::<Bool>(&format!("({rest}) {compared} ("))
                        .bind::<Text, _>(event_type)
                        .sql(", ")
                        .bind::<Text, _>(status)
                        .sql(", ")
                        .bind::<BigInt, _>(day)
                        .sql(", ")
                        .bind::<Integer, _>(shard)
                        .sql(")"),
                ),
                None => counts.filter(
                    sql::<Bool>(&format!("(subscription_id, {rest}) {compared} ("))
                        .bind::<BigInt, _>(subscription)
                        .sql(", ")
                        .bind::<Text, _>(event_type)
                        .sql(", ")
                        .bind::<Text, _>(status)
                        .sql(", ")
                        .bind::<BigInt, _>(day)
                        .sql(", ")
                        .bind::<Integer, _>(shard)
                        .sql(")"),
                ),
            };
        }
        counts
    }};
}

backends!(
    use backend::Conn;

    /// The sum of the totals after `after`, up to a bounded number of rows, and the last place where there are more.
    pub(crate) fn sum(
        conn: &mut Conn,
        query: &LogQuery,
        after: Option<&CountPlace>,
    ) -> Result<(u64, Option<CountPlace>), StoreError> {
        let order = (
            attempt_counts::subscription_id,
            attempt_counts::event_type,
            attempt_counts::status,
            attempt_counts::day,
            attempt_counts::shard,
        );
        let last: Option<CountPlace> = counted!(query, after, None)
            .order(order)
            .offset(COUNTED - 1)
            .limit(1)
            .select(order)
            .get_result(conn)
            .optional()?;
        let mut counts = counted!(query, after, last.as_ref());
        // `|| ''`: with plain columns the planner would read all days of the type and not only the rows up to `last`.
        if let Some(event_type) = query.filter.event_type {
            let of_type = sql::<Bool>("event_type || '' = ");
            counts = counts.filter(of_type.bind::<Text, _>(event_type.as_str()));
        }
        if let Some(status) = query.filter.status {
            let of_status = sql::<Bool>("status || '' = ");
            counts = counts.filter(of_status.bind::<Text, _>(status.as_str()));
        }
        // SUM over BIGINT is NUMERIC on PostgreSQL.
        let sum = sql::<Nullable<BigInt>>("CAST(SUM(count) AS BIGINT)");
        let sum: Option<i64> = counts.select(sum).get_result(conn)?;
        let sum = sum.and_then(|sum| u64::try_from(sum).ok());
        Ok((sum.unwrap_or_default(), last))
    }
);
