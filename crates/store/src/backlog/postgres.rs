//! Backlog in PostgreSQL: one statement for many deliveries, and one for many subscriptions.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use hookline_core::delivery::AttemptTask;
use hookline_core::timestamp::Timestamp;

use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::{BulkStatement, UnnestRows};
use crate::backlog::rows::{BacklogSubscriptionRow, MarkedRow, behind, number};
use crate::backlog::{BacklogClass, BacklogRead, BacklogRow, BacklogSubscription};
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::rows::signed;

#[derive(QueryableByName)]
struct MarkedDelivery {
    #[diesel(sql_type = UuidColumn)]
    id: UuidKey,
}

/// Answers with the rows that have a mark then. Rows that another session has locked are skipped: they stay due.
pub(crate) fn mark(
    conn: &mut Conn,
    tasks: &[AttemptTask],
    now: Timestamp,
) -> Result<Vec<UuidKey>, StoreError> {
    let class = BacklogClass::Live.number();
    let marked: Vec<MarkedDelivery> = UnnestRows::default()
        .column::<UuidColumn, _>("id", tasks.iter().map(|one| UuidKey(one.delivery.0)))
        .column::<Integer, _>("generation", tasks.iter().map(|one| signed(one.generation)))
        .column::<Integer, _>("attempt", tasks.iter().map(|one| signed(one.attempt)))
        .column::<SmallInt, _>("class", tasks.iter().map(|_| class))
        .column::<BigInt, _>("now", tasks.iter().map(|_| now.unix_micros()))
        .in_statement(
            ", locked AS (
                 SELECT g.* FROM given g JOIN deliveries d ON d.id = g.id
                  WHERE d.state = 'pending' ORDER BY d.id FOR NO KEY UPDATE OF d SKIP LOCKED
             )
             UPDATE deliveries d SET backlog = coalesce(d.backlog, l.class)
               FROM locked l
              WHERE d.id = l.id AND d.state = 'pending' AND d.generation = l.generation
                AND d.attempts = l.attempt - 1 AND d.origin <> 'test' AND d.due <= l.now
             RETURNING d.id",
        )
        .load(conn)?;
    Ok(marked.into_iter().map(|moved| moved.id).collect())
}

/// The longest due come first.
pub(crate) fn read(
    conn: &mut Conn,
    reads: &[BacklogRead],
    now: Timestamp,
) -> Result<Vec<BacklogRow>, StoreError> {
    if reads.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<MarkedRow> = reading(reads, now).load(conn)?;
    let mut found = found
        .into_iter()
        .map(BacklogRow::try_from)
        .collect::<Result<Vec<_>, StoreError>>()?;
    found.sort_unstable_by_key(BacklogRow::position);
    Ok(found)
}

/// One index search for each read. Without a lower bound, the planner could start each at the first entry of the
/// subscription.
pub(crate) fn reading(reads: &[BacklogRead], now: Timestamp) -> BulkStatement<'_> {
    UnnestRows::default()
        .column::<Integer, _>("partition", reads.iter().map(|one| number(one.partition)))
        .column::<BigInt, _>(
            "subscription_id",
            reads.iter().map(|one| one.subscription.0),
        )
        .column::<SmallInt, _>("class", reads.iter().map(|one| one.class.number()))
        .column::<BigInt, _>(
            "due",
            reads
                .iter()
                .map(|one| one.after.map_or(i64::MIN, |after| after.due.unix_micros())),
        )
        .column::<UuidColumn, _>(
            "id",
            reads.iter().map(|one| {
                UuidKey(
                    one.after
                        .map_or_else(Default::default, |after| after.delivery.0),
                )
            }),
        )
        .column::<BigInt, _>("now", reads.iter().map(|_| now.unix_micros()))
        .column::<BigInt, _>("most", reads.iter().map(|one| i64::from(one.limit)))
        .in_statement(
            "SELECT found.* FROM given CROSS JOIN LATERAL (
                 SELECT d.id, d.subscription_id, d.generation, d.attempts, d.backlog, d.due
                   FROM deliveries d
                  WHERE d.partition = given.partition AND d.subscription_id = given.subscription_id
                    AND d.backlog = given.class AND d.due <= given.now
                    AND (d.due, d.id) > (given.due, given.id)
                  ORDER BY d.due, d.id LIMIT given.most
             ) found",
        )
}

/// The index has an entry for each delivery; this skips from one subscription to the next.
pub(crate) const LIST: &str = "
    WITH RECURSIVE found AS (
        (SELECT d.partition, d.subscription_id, d.backlog FROM deliveries d
          WHERE d.due IS NOT NULL AND d.backlog IS NOT NULL
            AND (d.partition, d.subscription_id, d.backlog) > ($1, $2, $3)
          ORDER BY d.partition, d.subscription_id, d.backlog LIMIT 1)
        UNION ALL
        SELECT next.* FROM found f CROSS JOIN LATERAL (
            SELECT d.partition, d.subscription_id, d.backlog FROM deliveries d
             WHERE d.due IS NOT NULL AND d.backlog IS NOT NULL
               AND (d.partition, d.subscription_id, d.backlog) > (f.partition, f.subscription_id, f.backlog)
             ORDER BY d.partition, d.subscription_id, d.backlog LIMIT 1
        ) next
    ) SELECT * FROM found LIMIT $4";

pub(crate) fn list(
    conn: &mut Conn,
    after: Option<BacklogSubscription>,
) -> Result<Vec<BacklogSubscription>, StoreError> {
    let (partition, subscription, class) = behind(after);
    let found: Vec<BacklogSubscriptionRow> = diesel::sql_query(LIST)
        .bind::<Integer, _>(partition)
        .bind::<BigInt, _>(subscription)
        .bind::<SmallInt, _>(class)
        .bind::<BigInt, _>(BacklogSubscription::MOST)
        .load(conn)?;
    found
        .into_iter()
        .map(BacklogSubscription::try_from)
        .collect()
}
