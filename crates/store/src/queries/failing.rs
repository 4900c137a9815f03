//! Subscriptions whose receivers take nothing.
//!
//! Nothing is kept while all goes well. When a delivery is exhausted, the log says since when every
//! attempt for its subscription has failed, and that moment is noted. When it is long enough ago
//! and nothing has succeeded since, the subscription is switched off.
//!
//! Locks are taken in the order version, subscription, note, here as in `progress`.

use std::collections::BTreeMap;

use diesel::dsl::max;
use diesel::prelude::*;
use diesel::upsert::excluded;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::subscription::DisabledReason;
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use super::subscriptions::{Called, Disabling, disable, is_unchanged, next_version};
use crate::error::StoreError;
use crate::records::AttemptStatus;
use crate::schema::{attempt_counts, attempts, failing, subscriptions};

/// How many subscriptions one step looks at.
const STEP: i64 = 100;

/// Notes since when these subscriptions, which had a delivery exhausted just now, are failing.
pub(crate) fn note(
    conn: &mut Conn,
    exhausted: &BTreeMap<Called<'_>, &OrganizationId>,
) -> Result<(), StoreError> {
    for (called, owner) in exhausted {
        let subscription = called.subscription;
        if !is_unchanged(conn, *called)? {
            continue;
        }
        let Some(good) = last_good(conn, owner.as_str(), subscription.0)? else {
            continue;
        };
        let noted: Option<i64> = failing::table
            .find(subscription.0)
            .select(failing::since)
            .first(conn)
            .optional()?;
        if noted.is_some_and(|since| good <= since) {
            continue;
        }
        let Some(since) = first_failure(conn, *called, good)? else {
            continue;
        };
        diesel::insert_into(failing::table)
            .values((
                failing::subscription_id.eq(subscription.0),
                failing::since.eq(since),
            ))
            .on_conflict(failing::subscription_id)
            .do_update()
            .set(failing::since.eq(excluded(failing::since)))
            .execute(conn)?;
    }
    Ok(())
}

/// From when on failures count: the last success, or the moment when the subscription was made,
/// switched on or given another URL. None for one that is not active.
fn last_good(conn: &mut Conn, owner: &str, subscription: i64) -> Result<Option<i64>, StoreError> {
    let from: Option<i64> = subscriptions::table
        .filter(subscriptions::id.eq(subscription))
        .filter(subscriptions::is_active)
        .filter(subscriptions::deleted_at.is_null())
        .select(subscriptions::failures_from)
        .first(conn)
        .optional()?;
    let succeeded: Option<i64> = attempt_counts::table
        .filter(attempt_counts::organization_id.eq(owner))
        .filter(attempt_counts::subscription_id.eq(subscription))
        .filter(attempt_counts::status.eq(AttemptStatus::Success.as_str()))
        .select(max(attempt_counts::last_at))
        .get_result(conn)?;
    Ok(from.map(|from| succeeded.map_or(from, |at| at.max(from))))
}

/// From `good` on there are only failures, so the index leads to the first one at once. A test
/// that fails does not count; one that succeeds shows that the receiver works. A failure of the
/// URL before does not count either: the clocks of two processes may disagree on what came first.
fn first_failure(
    conn: &mut Conn,
    called: Called<'_>,
    good: i64,
) -> Result<Option<i64>, StoreError> {
    Ok(attempts::table
        .filter(attempts::subscription_id.eq(called.subscription.0))
        .filter(attempts::url.eq(called.url))
        .filter(attempts::created_at.ge(good))
        .filter(attempts::status.eq(AttemptStatus::Failed.as_str()))
        .filter(attempts::trigger.ne("test"))
        .order(attempts::created_at)
        .select(attempts::created_at)
        .first(conn)
        .optional()?)
}

/// Switches off what has been failing since `before` or longer, some of it. Answers with how many
/// notes were looked at; 0 means that there are no more.
pub(crate) fn disable_failing(
    conn: &mut Conn,
    before: Timestamp,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let notes = failing::table
        .inner_join(subscriptions::table.on(subscriptions::id.eq(failing::subscription_id)))
        .filter(failing::since.le(before.unix_micros()))
        .order(failing::subscription_id)
        .limit(STEP)
        .select((
            failing::subscription_id,
            subscriptions::organization_id,
            failing::since,
        ));
    let notes: Vec<(i64, String, i64)> = notes.load(conn)?;
    if notes.is_empty() {
        return Ok(0);
    }
    conn.transaction(|conn| {
        // First, so that nobody changes a subscription while it is judged.
        let version = next_version(conn)?;
        for (subscription, owner, since) in &notes {
            let good = last_good(conn, owner, *subscription)?;
            if good.is_some_and(|good| good <= *since) {
                let disabling = Disabling {
                    subscription: SubscriptionId(*subscription),
                    reason: DisabledReason::Failing,
                    at: now,
                };
                disable(conn, disabling, version)?;
            }
            // Unless somebody has noted another moment meanwhile.
            diesel::delete(failing::table)
                .filter(failing::subscription_id.eq(subscription))
                .filter(failing::since.eq(since))
                .execute(conn)?;
        }
        Ok(notes.len())
    })
}
