//! Queries of the automatic disable.
//!
//! While deliveries succeed nothing is stored. An exhausted delivery stores in `failing_subscriptions` the start of the unbroken
//! failures of its subscription, which the log tells. When that is long enough ago and no attempt has succeeded since,
//! the subscription is switched off.
//!
//! Locks are taken in the order version, subscription, `failing_subscriptions`.

use std::collections::BTreeMap;

use diesel::dsl::max;
use diesel::prelude::*;
use diesel::upsert::excluded;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::subscription::DisabledReason;
use hookline_core::timestamp::Timestamp;

use crate::attempts::AttemptStatus;
use crate::backend::backends;
use crate::error::StoreError;
use crate::schema::{attempt_counts, attempts, failing_subscriptions, subscriptions};
use crate::subscriptions::disabling::{AttemptTarget, DisableRequest};

/// Subscriptions in one step.
const STEP: i64 = 100;

backends!(
    with {
        subscription_disabling: crate::subscriptions::disabling,
        subscription_version_queries: crate::subscription_version,
    }

    use backend::Conn;
    use subscription_disabling::{disable, is_unchanged};
    use subscription_version_queries::next_version;

    /// Stores since when these subscriptions, each with a delivery that was just exhausted, have been failing.
    pub(crate) fn note(
        conn: &mut Conn,
        exhausted: &BTreeMap<AttemptTarget<'_>, &OrganizationId>,
    ) -> Result<(), StoreError> {
        for (called, owner) in exhausted {
            let subscription = called.subscription;
            if !is_unchanged(conn, *called)? {
                continue;
            }
            let Some(good) = last_good(conn, owner.as_str(), subscription.0)? else {
                continue;
            };
            let noted: Option<i64> = failing_subscriptions::table
                .find(subscription.0)
                .select(failing_subscriptions::since)
                .first(conn)
                .optional()?;
            if noted.is_some_and(|since| good <= since) {
                continue;
            }
            let Some(since) = first_failure(conn, *called, good)? else {
                continue;
            };
            diesel::insert_into(failing_subscriptions::table)
                .values((
                    failing_subscriptions::subscription_id.eq(subscription.0),
                    failing_subscriptions::since.eq(since),
                ))
                .on_conflict(failing_subscriptions::subscription_id)
                .do_update()
                .set(failing_subscriptions::since.eq(excluded(failing_subscriptions::since)))
                .execute(conn)?;
        }
        Ok(())
    }

    /// Failures count from the last success, or from the creation, activation or change of URL. None for an inactive
    /// subscription.
    fn last_good(
        conn: &mut Conn,
        owner: &str,
        subscription: i64,
    ) -> Result<Option<i64>, StoreError> {
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

    /// From `good` on there are only failures, so the index finds the first one at once. A failed test does not count; a
    /// successful one shows that the receiver works. A failure of an earlier URL does not count either: the clocks of two
    /// processes may disagree on the order.
    fn first_failure(
        conn: &mut Conn,
        called: AttemptTarget<'_>,
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

    /// Answers with the number of rows that it looked at; 0 means that there are no more.
    pub(crate) fn disable_failing(
        conn: &mut Conn,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        let notes = failing_subscriptions::table
            .inner_join(
                subscriptions::table
                    .on(subscriptions::id.eq(failing_subscriptions::subscription_id)),
            )
            .filter(failing_subscriptions::since.le(before.unix_micros()))
            .order(failing_subscriptions::subscription_id)
            .limit(STEP)
            .select((
                failing_subscriptions::subscription_id,
                subscriptions::organization_id,
                failing_subscriptions::since,
            ));
        let notes: Vec<(i64, String, i64)> = notes.load(conn)?;
        if notes.is_empty() {
            return Ok(0);
        }
        conn.transaction(|conn| {
            // First, so that no subscription changes until the end of this transaction.
            let version = next_version(conn)?;
            for (subscription, owner, since) in &notes {
                let good = last_good(conn, owner, *subscription)?;
                if good.is_some_and(|good| good <= *since) {
                    let disabling = DisableRequest {
                        subscription: SubscriptionId(*subscription),
                        reason: DisabledReason::Failing,
                        at: now,
                    };
                    disable(conn, disabling, version)?;
                }
                // Unless another time was stored meanwhile.
                diesel::delete(failing_subscriptions::table)
                    .filter(failing_subscriptions::subscription_id.eq(subscription))
                    .filter(failing_subscriptions::since.eq(since))
                    .execute(conn)?;
            }
            Ok(notes.len())
        })
    }
);
