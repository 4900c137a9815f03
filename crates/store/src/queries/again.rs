//! Starting a delivery again: the one way back from a finished state, for whoever retries,
//! replays, or puts a dead letter back.

use diesel::prelude::*;
use hookline_core::delivery::{Cause, OwedAttempt};
use hookline_core::ids::{DeliveryId, OrganizationId};
use hookline_core::timestamp::Timestamp;

use super::super::{Conn, bulk};
use super::put_aside;
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::{Again, Restart, Standing, Standings};
use crate::rows::read_origin;
use crate::schema::{deliveries, subscriptions};

/// Every state but the one of what is owed anyway.
const FINISHED: &[&str] = &["delivered", "exhausted", Restart::VOID, "cancelled"];

/// Starts one delivery again; of any organization without an `owner`. Of two who do so at once one
/// is told that it is pending.
pub(crate) fn start(
    conn: &mut Conn,
    owner: Option<&OrganizationId>,
    id: DeliveryId,
    cause: Cause,
    now: Timestamp,
) -> Result<Again, StoreError> {
    type Row = (String, String, bool, i64, Option<i64>);
    conn.transaction(|conn| {
        let found: Option<Row> = deliveries::table
            .inner_join(subscriptions::table)
            .filter(deliveries::id.eq(Key(id.0)))
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
            return Ok(Again::Unknown);
        };
        if owner.is_some_and(|owner| owner.as_str() != organization) {
            return Ok(Again::Unknown);
        }
        // It is made as if it were new, so only what the subscription is now counts.
        let standings = Standings {
            origin: read_origin(&origin)?,
            made_in: activation,
            activation,
            is_active,
            is_deleted: deleted_at.is_some(),
        };
        match standings.into() {
            Standing::Deleted => return Ok(Again::Deleted),
            Standing::Inactive => return Ok(Again::Inactive),
            Standing::Active => {}
        }
        let restart = Restart {
            cause,
            activation,
            from: FINISHED,
            now,
        };
        let started = restart_all(conn, &[Key(id.0)], restart)?;
        Ok(started
            .into_iter()
            .next()
            .map_or(Again::Pending, Again::Owed))
    })
}

/// Starts deliveries again where they stand as they have to; answers with what is owed then. None of these is put
/// aside any more.
pub(crate) fn restart_all(
    conn: &mut Conn,
    keys: &[Key],
    restart: Restart,
) -> Result<Vec<OwedAttempt>, StoreError> {
    let started = bulk::start_again(conn, keys, restart)?;
    let keys: Vec<Key> = started.iter().map(|owed| Key(owed.delivery.0)).collect();
    put_aside::remove(conn, &keys)?;
    Ok(started)
}
