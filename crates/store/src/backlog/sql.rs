//! Queries of the backlog. The owner of a subscription marks due deliveries and reads them in the order in which they
//! are due; queries for due deliveries skip them.

use std::collections::HashSet;
use std::time::Duration;

use diesel::prelude::*;
use hookline_core::delivery::AttemptTask;
use hookline_core::ids::{DeliveryId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backend::{ROWS, backends};
use crate::backlog::{BacklogSubscription, BreakerChange};
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::schema::{circuit_breakers, deliveries};

backends!(
    with {
        partition_queries: crate::partitions::sql,
        own: crate::backlog,
    }

    use backend::Conn;
    use partition_queries::repartition_deliveries;
    pub(crate) use own::{list, read};

    /// In the order of ids, as `recording` locks rows.
    pub(crate) fn mark(
        conn: &mut Conn,
        mut tasks: Vec<AttemptTask>,
        now: Timestamp,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        tasks.sort_unstable_by_key(|one| one.delivery);
        let marked = own::mark(conn, &tasks, now)?;
        Ok(marked.into_iter().map(|key| DeliveryId(key.0)).collect())
    }

    /// In the order of subscriptions, so that two writers never deadlock.
    pub(crate) fn write_breakers(
        conn: &mut Conn,
        mut changes: Vec<BreakerChange>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        changes.sort_unstable_by_key(|one| one.subscription);
        let closed: Vec<i64> = changes
            .iter()
            .filter(|one| one.wait.is_none())
            .map(|one| one.subscription.0)
            .collect();
        conn.transaction(|conn| {
            for closed in closed.chunks(ROWS) {
                let closed = circuit_breakers::table
                    .filter(circuit_breakers::subscription_id.eq_any(closed.to_vec()));
                diesel::delete(closed).execute(conn)?;
            }
            for BreakerChange { subscription, wait } in &changes {
                let Some(wait) = wait else {
                    continue;
                };
                let seconds = i32::try_from(wait.as_secs()).unwrap_or(i32::MAX);
                diesel::insert_into(circuit_breakers::table)
                    .values((
                        circuit_breakers::subscription_id.eq(subscription.0),
                        circuit_breakers::opened_at.eq(now.unix_micros()),
                        circuit_breakers::wait_seconds.eq(seconds),
                    ))
                    .on_conflict(circuit_breakers::subscription_id)
                    .do_update()
                    .set(circuit_breakers::wait_seconds.eq(seconds))
                    .execute(conn)?;
            }
            Ok(())
        })
    }

    pub(crate) fn breakers(conn: &mut Conn) -> Result<Vec<BreakerChange>, StoreError> {
        let rows: Vec<(i64, i32)> = circuit_breakers::table
            .select((
                circuit_breakers::subscription_id,
                circuit_breakers::wait_seconds,
            ))
            .load(conn)?;
        let breakers = rows
            .into_iter()
            .map(|(subscription, seconds)| BreakerChange {
                subscription: SubscriptionId(subscription),
                wait: Some(Duration::from_secs(u64::from(seconds.unsigned_abs()))),
            });
        Ok(breakers.collect())
    }

    /// [`ROWS`] at most.
    pub(crate) fn refile(
        conn: &mut Conn,
        listed: BacklogSubscription,
    ) -> Result<usize, StoreError> {
        conn.transaction(|conn| {
            let keys: Vec<UuidKey> = deliveries::table
                .filter(deliveries::partition.eq(i32::from(listed.partition.0)))
                .filter(deliveries::subscription_id.eq(listed.subscription.0))
                .filter(deliveries::backlog.eq(listed.class.number()))
                .filter(deliveries::due.is_not_null())
                .select(deliveries::id)
                .limit(i64::try_from(ROWS).unwrap_or(i64::MAX))
                .load(conn)?;
            let ids = keys.into_iter().map(|key| DeliveryId(key.0));
            repartition_deliveries(conn, ids.collect())
        })
    }
);
