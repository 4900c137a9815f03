//! Restart of deliveries: the only transition from a finished state, for a retry, a replay and a redrive. And the step
//! that brings a pending delivery forward, which is no restart: generation and attempts stay.

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, StartedBy};
use hookline_core::ids::{DeliveryId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::due::{Eligibility, EligibilityFacts};
use crate::deliveries::{
    DeliveredCase, PendingCase, Restart, RestartKey, RestartResult, RetryCases,
};
use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::rows::{NextAttempt, read_name};
use crate::schema::{deliveries, subscriptions};
use crate::store::{Store, run};

impl Store {
    /// Restarts a finished delivery, which is due at once. Without an `owner`, of any organization.
    pub async fn restart(
        &self,
        owner: Option<OrganizationId>,
        id: DeliveryId,
        started_by: StartedBy,
        making: impl Into<Creation<RestartResult>>,
    ) -> Result<RestartResult, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: self| {
            idempotency::once(conn, once, |conn| {
                q::start(conn, owner.as_ref(), id, started_by, now)
            })
        })
    }

    /// Restarts a delivery as [`Store::restart`] does, except in these `cases`.
    pub async fn retry(
        &self,
        owner: OrganizationId,
        id: DeliveryId,
        cases: RetryCases,
        making: impl Into<Creation<RestartResult>>,
    ) -> Result<RestartResult, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: self| {
            idempotency::once(conn, once, |conn| q::retry(conn, &owner, id, cases, now))
        })
    }
}

/// Every state but `pending`.
const FINISHED: &[&str] = &["delivered", "exhausted", Restart::VOID, "cancelled"];

/// States in which the receiver does not have a delivery, as far as we know.
const UNDELIVERED: &[&str] = &["exhausted", Restart::VOID, "cancelled"];

backends!(
    with {
        dead_deliveries: crate::deliveries::dead_deliveries::sql,
        own: crate::deliveries,
    }

    use backend::Conn;

    /// One of two simultaneous calls gets [`RestartResult::Pending`].
    pub(crate) fn start(
        conn: &mut Conn,
        owner: Option<&OrganizationId>,
        id: DeliveryId,
        started_by: StartedBy,
        now: Timestamp,
    ) -> Result<RestartResult, StoreError> {
        let restart = Restart {
            started_by,
            from: FINISHED,
            now,
        };
        conn.transaction(|conn| {
            let key = match key_of(conn, owner, id)? {
                Ok(key) => key,
                Err(refused) => return Ok(refused),
            };
            let started = restart_all(conn, &[key], restart)?;
            let started = started.into_iter().next();
            Ok(started.map_or(RestartResult::Pending, RestartResult::Started))
        })
    }

    pub(crate) fn retry(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: DeliveryId,
        cases: RetryCases,
        now: Timestamp,
    ) -> Result<RestartResult, StoreError> {
        let restart = Restart {
            started_by: StartedBy::Retry,
            from: match cases.delivered {
                DeliveredCase::Restarted => FINISHED,
                DeliveredCase::Refused => UNDELIVERED,
            },
            now,
        };
        conn.transaction(|conn| {
            let key = match key_of(conn, Some(owner), id)? {
                Ok(key) => key,
                Err(refused) => return Ok(refused),
            };
            if let Some(started) = restart_all(conn, &[key], restart)?.into_iter().next() {
                return Ok(RestartResult::Started(started));
            }
            // The statement has locked the row, so its state stays.
            let (state, next) = state_of(conn, key)?;
            match (state.as_str(), cases.pending) {
                ("pending", PendingCase::Refused) => Ok(RestartResult::Pending),
                ("pending", PendingCase::BroughtForward) => {
                    own::bring_forward(conn, &[key.delivery], now, None)?;
                    Ok(RestartResult::Started(next))
                }
                _ => Ok(RestartResult::Delivered),
            }
        })
    }

    fn state_of(
        conn: &mut Conn,
        key: RestartKey,
    ) -> Result<(String, AttemptTask), StoreError> {
        let (state, subscription_id, generation, attempts) = deliveries::table
            .find(key.delivery)
            .select((
                deliveries::state,
                deliveries::subscription_id,
                deliveries::generation,
                deliveries::attempts,
            ))
            .first(conn)?;
        let next = NextAttempt {
            id: key.delivery,
            subscription_id,
            generation,
            attempts,
        };
        Ok((state, next.into()))
    }

    /// The delivery, or why nothing would be sent.
    fn key_of(
        conn: &mut Conn,
        owner: Option<&OrganizationId>,
        id: DeliveryId,
    ) -> Result<Result<RestartKey, RestartResult>, StoreError> {
        type RestartRow = (String, String, bool, i64, Option<i64>);
        let found: Option<RestartRow> = deliveries::table
            .inner_join(subscriptions::table)
            .filter(deliveries::id.eq(UuidKey(id.0)))
            .select((
                deliveries::organization_id,
                deliveries::origin,
                subscriptions::is_active,
                subscriptions::activation,
                subscriptions::deleted_at,
            ))
            .first(conn)
            .optional()?;
        let Some((organization, origin, is_active, activation, deleted_at)) = found else {
            return Ok(Err(RestartResult::Unknown));
        };
        if owner.is_some_and(|owner| owner.as_str() != organization) {
            return Ok(Err(RestartResult::Unknown));
        }
        // Like a new delivery: only the present state of the subscription counts.
        let facts = EligibilityFacts {
            kind: read_name("origin", &origin)?,
            made_in: activation,
            activation,
            is_active,
            is_deleted: deleted_at.is_some(),
        };
        Ok(match facts.into() {
            Eligibility::Deleted => Err(RestartResult::Deleted),
            Eligibility::Inactive => Err(RestartResult::Inactive),
            Eligibility::Active => Ok(RestartKey {
                delivery: UuidKey(id.0),
                activation,
            }),
        })
    }

    /// Restarts the deliveries that are in one of `restart.from`, in the order of ids, and removes them from the dead deliveries. Answers with
    /// the attempts that are due then.
    pub(crate) fn restart_all(
        conn: &mut Conn,
        keys: &[RestartKey],
        restart: Restart<'_>,
    ) -> Result<Vec<AttemptTask>, StoreError> {
        let started = own::restart(conn, keys, restart)?;
        let keys: Vec<UuidKey> = started
            .iter()
            .map(|task| UuidKey(task.delivery.0))
            .collect();
        dead_deliveries::remove(conn, &keys)?;
        Ok(started)
    }
);
