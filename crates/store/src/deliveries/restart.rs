//! Restart of deliveries: the only transition from a finished state, for a retry, a replay and a redrive.

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, StartedBy};
use hookline_core::ids::{DeliveryId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::due::{Eligibility, EligibilityFacts};
use crate::deliveries::{Restart, RestartResult};
use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::rows::read_name;
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
}

/// Every state but `pending`.
const FINISHED: &[&str] = &["delivered", "exhausted", Restart::VOID, "cancelled"];

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
        type RestartRow = (String, String, bool, i64, Option<i64>);
        conn.transaction(|conn| {
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
                return Ok(RestartResult::Unknown);
            };
            if owner.is_some_and(|owner| owner.as_str() != organization) {
                return Ok(RestartResult::Unknown);
            }
            // Like a new delivery: only the present state of the subscription counts.
            let facts = EligibilityFacts {
                kind: read_name("origin", &origin)?,
                made_in: activation,
                activation,
                is_active,
                is_deleted: deleted_at.is_some(),
            };
            match facts.into() {
                Eligibility::Deleted => return Ok(RestartResult::Deleted),
                Eligibility::Inactive => return Ok(RestartResult::Inactive),
                Eligibility::Active => {}
            }
            let restart = Restart {
                started_by,
                activation,
                from: FINISHED,
                now,
            };
            let started = restart_all(conn, &[UuidKey(id.0)], restart)?;
            Ok(started
                .into_iter()
                .next()
                .map_or(RestartResult::Pending, RestartResult::Started))
        })
    }

    /// Restarts the deliveries that are in one of `restart.from`, and removes them from the dead deliveries. Answers with
    /// the attempts that are due then.
    pub(crate) fn restart_all(
        conn: &mut Conn,
        keys: &[UuidKey],
        restart: Restart,
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
