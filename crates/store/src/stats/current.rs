//! Pending deliveries, counted up to a bound.
//!
//! As for its owner, a pending delivery that its subscription no longer receives is not pending.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::deliveries::WaitingFor;
use crate::error::StoreError;
use crate::rows::read_name;
use crate::stats::StatsScope;
use crate::store::{Store, run};

/// What an organization, a subscription or an event type is owed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentNumbers {
    pub pending: u64,
    /// The same by the reason why they wait, in the order of names.
    pub waiting: Vec<WaitingCount>,
    /// There are [`CurrentNumbers::MOST`] pending deliveries or more, and the counts are those of the first ones.
    pub is_capped: bool,
    /// The earliest due time that has passed.
    pub oldest_due: Option<Timestamp>,
}

impl CurrentNumbers {
    /// The most pending deliveries that are counted.
    pub const MOST: i64 = 10_000;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingCount {
    /// None: the attempt is about to be made.
    pub waiting_for: Option<WaitingFor>,
    pub deliveries: u64,
}

impl Store {
    pub async fn current_numbers(
        &self,
        scope: StatsScope,
        now: Timestamp,
    ) -> Result<CurrentNumbers, StoreError> {
        run!(self, read, |conn, q: self| q::numbers(conn, &scope, now))
    }
}

#[derive(QueryableByName)]
struct ReasonRow {
    #[diesel(sql_type = Text)]
    reason: String,
    #[diesel(sql_type = BigInt)]
    deliveries: i64,
}

#[derive(QueryableByName)]
struct OldestRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    oldest: Option<i64>,
}

/// A row that its owner does not see as pending, or of another type.
const NOT_COUNTED: &str = "void";

/// `WaitingFor` has the names of reasons. The window is what is read at most.
fn counting(owed: &str, of: &str) -> String {
    format!(
        "SELECT reason, count(*) AS deliveries FROM (
             SELECT CASE WHEN $1 <> '' AND $1 <> coalesce(
                              (SELECT e.event_type FROM events e WHERE e.key = pending.event_key), '')
                         THEN '{NOT_COUNTED}'
                         WHEN NOT (origin = 'test' OR (is_active AND activation = activation_now))
                         THEN '{NOT_COUNTED}'
                         WHEN due > $2 THEN 'retry'
                         WHEN has_breaker THEN 'breaker'
                         WHEN backlog IS NOT NULL THEN 'concurrency'
                         ELSE '' END AS reason
               FROM (SELECT d.due, d.backlog, d.origin, d.activation, d.event_key, s.is_active,
                            s.activation AS activation_now,
                            EXISTS (SELECT 1 FROM circuit_breakers b WHERE b.subscription_id = s.id) AS has_breaker
                       FROM subscriptions s {owed}
                      WHERE s.organization_id = $3 AND s.deleted_at IS NULL AND {of}
                      LIMIT {}) pending
         ) counted GROUP BY reason ORDER BY reason",
        CurrentNumbers::MOST
    )
}

/// One index search for each subscription.
fn oldest(of: &str) -> String {
    format!(
        "SELECT min(first_due) AS oldest FROM (
             SELECT (SELECT d.due
                       FROM (SELECT due, origin, activation, event_key FROM deliveries
                              WHERE subscription_id = s.id AND due + 0 IS NOT NULL AND due <= $1
                              ORDER BY due LIMIT {}) d
                      WHERE (d.origin = 'test' OR (s.is_active AND d.activation = s.activation))
                        AND ($2 = '' OR $2 = (SELECT e.event_type FROM events e WHERE e.key = d.event_key))
                      ORDER BY d.due LIMIT 1) AS first_due
               FROM subscriptions s
              WHERE s.organization_id = $3 AND s.deleted_at IS NULL AND {of}
         ) firsts",
        CurrentNumbers::MOST
    )
}

backends!(
    with {
        own: crate::stats,
    }

    use backend::Conn;

    pub(crate) fn numbers(
        conn: &mut Conn,
        scope: &StatsScope,
        now: Timestamp,
    ) -> Result<CurrentNumbers, StoreError> {
        own::by_index(conn, |conn| read_numbers(conn, scope, now))
    }

    fn read_numbers(
        conn: &mut Conn,
        scope: &StatsScope,
        now: Timestamp,
    ) -> Result<CurrentNumbers, StoreError> {
        let (of, subscription) = match scope.subscription {
            Some(id) => ("s.id = $4", id.0),
            None => ("$4 = 0", 0),
        };
        let rows: Vec<ReasonRow> = diesel::sql_query(counting(own::OWED, of))
            .bind::<Text, _>(scope.event_type_name())
            .bind::<BigInt, _>(now.unix_micros())
            .bind::<Text, _>(scope.organization.as_str())
            .bind::<BigInt, _>(subscription)
            .load(conn)?;
        let OldestRow { oldest } = diesel::sql_query(oldest(of))
            .bind::<BigInt, _>(now.unix_micros())
            .bind::<Text, _>(scope.event_type_name())
            .bind::<Text, _>(scope.organization.as_str())
            .bind::<BigInt, _>(subscription)
            .get_result(conn)?;
        let read: i64 = rows.iter().map(|row| row.deliveries).sum();
        let waiting = rows
            .into_iter()
            .filter(|row| row.reason != NOT_COUNTED)
            .map(|row| {
                let name = Some(row.reason.as_str()).filter(|name| !name.is_empty());
                Ok(WaitingCount {
                    waiting_for: name.map(|name| read_name("reason", name)).transpose()?,
                    deliveries: row.deliveries.unsigned_abs(),
                })
            })
            .collect::<Result<Vec<_>, StoreError>>()?;
        Ok(CurrentNumbers {
            pending: waiting.iter().map(|one| one.deliveries).sum(),
            waiting,
            is_capped: read >= CurrentNumbers::MOST,
            oldest_due: oldest.map(Timestamp::from_unix_micros),
        })
    }
);
