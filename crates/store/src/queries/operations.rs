//! What operators are to be told of: written in the transaction that did it, forgotten once it was
//! told. So it is told at least once, whoever dies in between.

use diesel::prelude::*;
use hookline_core::ids::{OperationId, SubscriptionId};
use hookline_core::operations::WebhookDisabled;
use hookline_core::subscription::{DisabledReason, SubscriptionName};
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use crate::columns::Key;
use crate::error::StoreError;
use crate::rows::{corrupt, organization};
use crate::schema::operational_events;

/// How many are told at once.
const STEP: i64 = 100;

pub(crate) fn write(conn: &mut Conn, event: &WebhookDisabled) -> Result<(), StoreError> {
    diesel::insert_into(operational_events::table)
        .values((
            operational_events::id.eq(Key(event.id.0)),
            operational_events::organization_id.eq(event.organization.as_str()),
            operational_events::subscription_id.eq(event.subscription.0),
            operational_events::name.eq(event.name.as_str()),
            operational_events::reason.eq(event.reason.as_str()),
            operational_events::at.eq(event.at.unix_micros()),
        ))
        .on_conflict_do_nothing()
        .execute(conn)?;
    Ok(())
}

/// Some that nobody was told of; none means that there are no more.
pub(crate) fn untold(conn: &mut Conn) -> Result<Vec<WebhookDisabled>, StoreError> {
    type Row = (Key, String, i64, String, String, i64);
    let rows: Vec<Row> = operational_events::table
        .order(operational_events::at)
        .limit(STEP)
        .load(conn)?;
    rows.into_iter()
        .map(|(id, owner, subscription, name, reason, at)| {
            Ok(WebhookDisabled {
                id: OperationId(id.0),
                organization: organization(&owner)?,
                subscription: SubscriptionId(subscription),
                name: SubscriptionName::from_store(name),
                reason: DisabledReason::parse(&reason).ok_or_else(|| corrupt("reason", &reason))?,
                at: Timestamp::from_unix_micros(at),
            })
        })
        .collect()
}

pub(crate) fn forget(conn: &mut Conn, told: &[OperationId]) -> Result<(), StoreError> {
    let keys: Vec<Key> = told.iter().map(|id| Key(id.0)).collect();
    diesel::delete(operational_events::table.filter(operational_events::id.eq_any(keys)))
        .execute(conn)?;
    Ok(())
}
