//! Queries of the outbox. The transaction of a change writes its event; the event is deleted after it was published. Each
//! event is therefore published at least once, also if a process dies in between.

use diesel::prelude::*;
use hookline_core::ids::{OperationalEventId, SubscriptionId};
use hookline_core::operational_events::WebhookDisabled;
use hookline_core::subscription::SubscriptionName;
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::rows::{organization, read_name};
use crate::schema::operational_events;

/// Events in one step.
const STEP: i64 = 100;

backends!(
    use backend::Conn;

    pub(crate) fn write(conn: &mut Conn, event: &WebhookDisabled) -> Result<(), StoreError> {
        diesel::insert_into(operational_events::table)
            .values((
                operational_events::id.eq(UuidKey(event.id.0)),
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

    pub(crate) fn unpublished_operational_events(
        conn: &mut Conn,
    ) -> Result<Vec<WebhookDisabled>, StoreError> {
        type OutboxRow = (UuidKey, String, i64, String, String, i64);
        let rows: Vec<OutboxRow> = operational_events::table
            .order(operational_events::at)
            .limit(STEP)
            .load(conn)?;
        rows.into_iter()
            .map(|(id, owner, subscription, name, reason, at)| {
                Ok(WebhookDisabled {
                    id: OperationalEventId(id.0),
                    organization: organization(&owner)?,
                    subscription: SubscriptionId(subscription),
                    name: SubscriptionName::from_store(name),
                    reason: read_name("reason", &reason)?,
                    at: Timestamp::from_unix_micros(at),
                })
            })
            .collect()
    }

    pub(crate) fn forget(
        conn: &mut Conn,
        published: &[OperationalEventId],
    ) -> Result<(), StoreError> {
        let keys: Vec<UuidKey> = published.iter().map(|id| UuidKey(id.0)).collect();
        diesel::delete(operational_events::table.filter(operational_events::id.eq_any(keys)))
            .execute(conn)?;
        Ok(())
    }
);
