//! Versions of the subscriptions. Each change takes the next one while it holds the version row.

use diesel::dsl::max;
use diesel::prelude::*;
use hookline_core::fanout::{Subscriber, SubscriptionChange};
use hookline_core::ids::SubscriptionId;
use uuid::Uuid;

use crate::backend::backends;
use crate::error::StoreError;
use crate::fanout_index::{IndexChanges, Version};
use crate::rows::{known_event_types, organization};
use crate::schema::{subscription_marks, subscription_version, subscriptions};

/// The number of newest versions that keep a mark.
const MARKS: i64 = 1_000;

backends!(
    use backend::Conn;

    /// The changes for an index of this version.
    pub(crate) fn news_since(conn: &mut Conn, known: Version) -> Result<IndexChanges, StoreError> {
        let newest: Option<i64> = subscriptions::table
            .select(max(subscriptions::version))
            .get_result(conn)?;
        let newest = newest.unwrap_or_default();
        if newest < known.number || mark_of(conn, known.number)? != known.mark {
            let (changes, version) = changes_since(conn, 0)?;
            return Ok(IndexChanges::Anew(changes, version));
        }
        if newest == known.number {
            return Ok(IndexChanges::Nothing);
        }
        let (changes, version) = changes_since(conn, known.number)?;
        Ok(IndexChanges::Since(changes, version))
    }

    fn mark_of(conn: &mut Conn, version: i64) -> Result<Option<i64>, StoreError> {
        Ok(subscription_marks::table
            .find(version)
            .select(subscription_marks::mark)
            .first(conn)
            .optional()?)
    }

    /// Changes after `version`, and the newest version.
    fn changes_since(
        conn: &mut Conn,
        version: i64,
    ) -> Result<(Vec<SubscriptionChange>, Version), StoreError> {
        type ChangedRow = (i64, String, String, bool, i64, i64, Option<i64>);
        let rows: Vec<ChangedRow> = subscriptions::table
            .filter(subscriptions::version.gt(version))
            .select((
                subscriptions::id,
                subscriptions::organization_id,
                subscriptions::events,
                subscriptions::is_active,
                subscriptions::activation,
                subscriptions::version,
                subscriptions::deleted_at,
            ))
            .load(conn)?;
        let mut newest = version;
        let mut changes = Vec::with_capacity(rows.len());
        for (id, owner, events, is_active, activation, version, deleted_at) in rows {
            newest = newest.max(version);
            let subscription = SubscriptionId(id);
            let wants = known_event_types(&events);
            changes.push(SubscriptionChange {
                organization: organization(&owner)?,
                subscription,
                subscriber: deleted_at.is_none().then_some(Subscriber {
                    subscription,
                    wants,
                    activation,
                    is_active,
                }),
            });
        }
        let version = Version {
            number: newest,
            mark: mark_of(conn, newest)?,
        };
        Ok((changes, version))
    }

    /// Locks the version row until the end of the transaction: no other transaction changes subscriptions meanwhile.
    pub(crate) fn next_version(conn: &mut Conn) -> Result<i64, StoreError> {
        let version: i64 = diesel::update(subscription_version::table.find(1))
            .set(subscription_version::value.eq(subscription_version::value + 1))
            .returning(subscription_version::value)
            .get_result(conn)?;
        let mark = subscription_marks::mark.eq(Uuid::new_v4().as_u64_pair().0.cast_signed());
        diesel::insert_into(subscription_marks::table)
            .values((subscription_marks::version.eq(version), mark))
            .on_conflict(subscription_marks::version)
            .do_update()
            .set(mark)
            .execute(conn)?;
        diesel::delete(subscription_marks::table)
            .filter(subscription_marks::version.le(version - MARKS))
            .execute(conn)?;
        Ok(version)
    }
);
