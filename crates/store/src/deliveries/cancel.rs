//! The end of a pending delivery that its owner asks for.

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryState};
use hookline_core::ids::{DeliveryId, OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::due::{Eligibility, EligibilityFacts};
use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::rows::read_name;
use crate::schema::{deliveries, subscriptions};
use crate::store::{Store, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelResult {
    Cancelled,
    /// The organization has no such delivery.
    Unknown,
    /// It has ended, or its subscription no longer receives it.
    NotPending,
}

impl Store {
    /// Ends a pending delivery as cancelled. A request in flight is neither stopped nor recorded: the row has left the
    /// state in which a record moves it.
    pub async fn cancel_delivery(
        &self,
        owner: OrganizationId,
        id: DeliveryId,
        making: impl Into<Creation<CancelResult>>,
    ) -> Result<CancelResult, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        let shard = self.rollup_shard;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: self| {
            idempotency::once(conn, once, |conn| q::cancel(conn, &owner, id, now, shard))
        })
    }
}

/// Its state, generation, origin, activation and subscription.
type LockedRow = (String, i32, String, i64, i64);

backends!(
    with {
        ends: crate::deliveries::ends,
    }

    use backend::Conn;

    pub(crate) fn cancel(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: DeliveryId,
        now: Timestamp,
        shard: i32,
    ) -> Result<CancelResult, StoreError> {
        conn.transaction(|conn| {
            // A no-op UPDATE locks the row: the record of an attempt comes before or after.
            let locked: Option<LockedRow> = diesel::update(deliveries::table.find(UuidKey(id.0)))
                .filter(deliveries::organization_id.eq(owner.as_str()))
                .set(deliveries::state.eq(deliveries::state))
                .returning((
                    deliveries::state,
                    deliveries::generation,
                    deliveries::origin,
                    deliveries::activation,
                    deliveries::subscription_id,
                ))
                .get_result(conn)
                .optional()?;
            let Some((state, generation, origin, made_in, subscription)) = locked else {
                return Ok(CancelResult::Unknown);
            };
            let (is_active, activation, deleted_at): (bool, i64, Option<i64>) =
                subscriptions::table
                    .find(subscription)
                    .select((
                        subscriptions::is_active,
                        subscriptions::activation,
                        subscriptions::deleted_at,
                    ))
                    .first(conn)?;
            let facts = EligibilityFacts {
                kind: read_name("origin", &origin)?,
                made_in,
                activation,
                is_active,
                is_deleted: deleted_at.is_some(),
            };
            if state != "pending" || Eligibility::from(facts) != Eligibility::Active {
                return Ok(CancelResult::NotPending);
            }
            let task = AttemptTask {
                delivery: id,
                generation: generation.unsigned_abs(),
                attempt: 0,
                subscription: SubscriptionId(subscription),
            };
            ends::end(conn, &[task], DeliveryState::Cancelled { at: now }, shard)?;
            Ok(CancelResult::Cancelled)
        })
    }
);
