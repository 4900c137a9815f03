//! Queries of the intake: one transaction for events and their deliveries. An inactive subscription gets a skipped
//! delivery, which can be replayed.

use std::collections::{BTreeMap, HashSet};

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState};
use hookline_core::ids::{DeliveryId, EventKey, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::events::rows::{
    DeliverySpec, NewEvent, by_key, fan_out, first_attempt, first_attempts, new_delivery,
    new_event, size_of, skipped_of,
};
use crate::events::{IncomingEvent, IntakeLimits, IntakeResult};
use crate::fanout_index::{FanoutIndex, IndexChanges, Version};
use crate::schema::events;
use crate::usage::{UsageChange, shard_at};

/// The reason for a rollback.
enum IntakeRollback {
    TooMany,
    Failed(StoreError),
}

impl From<StoreError> for IntakeRollback {
    fn from(why: StoreError) -> Self {
        IntakeRollback::Failed(why)
    }
}

impl From<diesel::result::Error> for IntakeRollback {
    fn from(why: diesel::result::Error) -> Self {
        IntakeRollback::Failed(why.into())
    }
}

backends!(
    with {
        subscription_version_queries: crate::subscription_version,
        subscription_queries: crate::subscriptions::sql,
        own: crate::events,
        rollup: crate::rollup,
    }

    use backend::Conn;
    use subscription_version_queries::news_since;
    use subscription_queries::find_row;

    /// Answers with the first attempts of new deliveries. An event that was stored before needs nothing: the owners of the
    /// partitions find its deliveries.
    ///
    /// None where several events would make more than `most` deliveries: then nothing is written.
    pub(crate) fn intake(
        conn: &mut Conn,
        index: &FanoutIndex,
        incoming: &[IncomingEvent],
        bounds: IntakeLimits,
    ) -> Result<Option<IntakeResult>, StoreError> {
        let IntakeLimits { now, most, shard } = bounds;
        let by_key = by_key(incoming);
        let taken_in = conn.transaction(|conn| {
            let (new, seen) = insert_events(conn, &by_key, now)?;
            let fresh = by_key.iter().filter(|(key, _)| new.contains(key));
            let rows = index.with(
                |known| match seen {
                    Some(newest) if newest == known => Ok(IndexChanges::Nothing),
                    _ => news_since(conn, known),
                },
                |index| fan_out(index, fresh, now),
            )?;
            if rows.len() > most && by_key.len() > 1 {
                return Err(IntakeRollback::TooMany);
            }
            let mut stored = UsageChange::default();
            for (_, event) in by_key.iter().filter(|(key, _)| new.contains(key)) {
                stored.add(event.event.organization.as_str(), size_of(event));
            }
            own::insert_fan_out(conn, &rows, &stored.into_shards(shard_at(now)))?;
            let skipped = skipped_of(&rows, &by_key);
            rollup::add(conn, &skipped, shard)?;
            Ok(IntakeResult {
                new_events: new.len(),
                tasks: first_attempts(&rows),
            })
        });
        match taken_in {
            Ok(given) => Ok(Some(given)),
            Err(IntakeRollback::TooMany) => Ok(None),
            Err(IntakeRollback::Failed(why)) => Err(why),
        }
    }

    /// The events that are new, and the newest version of the subscriptions where the statement returned it.
    fn insert_events(
        conn: &mut Conn,
        by_key: &BTreeMap<EventKey, &IncomingEvent>,
        now: Timestamp,
    ) -> Result<(HashSet<EventKey>, Option<Version>), StoreError> {
        let rows: Vec<NewEvent<'_>> = by_key
            .iter()
            .map(|(key, event)| new_event(*key, event, now))
            .collect();
        let (inserted, seen) = own::insert_events(conn, &rows)?;
        let new = inserted.into_iter().map(|key| EventKey(key.0)).collect();
        Ok((new, seen))
    }

    /// None when there is no such subscription.
    pub(crate) fn create_test(
        conn: &mut Conn,
        id: SubscriptionId,
        incoming: &IncomingEvent,
        now: Timestamp,
    ) -> Result<Option<AttemptTask>, StoreError> {
        conn.transaction(|conn| {
            let event = &incoming.event;
            let Some(subscription) = find_row(conn, &event.organization, id)? else {
                return Ok(None);
            };
            let key = event.key();
            diesel::insert_into(events::table)
                .values(new_event(key, incoming, now))
                .execute(conn)?;
            let delivery = DeliveryId::of(&event.organization, &event.id, id);
            let purpose = DeliverySpec {
                owner: &event.organization,
                to: id,
                kind: DeliveryKind::Test,
                activation: subscription.activation,
                state: DeliveryState::Pending { due: now },
                event_type: event.event_type,
            };
            let row = new_delivery(delivery, key, purpose, now);
            let mut stored = UsageChange::default();
            stored.add(event.organization.as_str(), size_of(incoming));
            own::insert_fan_out(conn, &[row], &stored.into_shards(shard_at(now)))?;
            Ok(Some(first_attempt(UuidKey(delivery.0), id.0)))
        })
    }
);
