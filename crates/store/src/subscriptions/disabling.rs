//! The system switches a subscription off, and tells operators through the outbox.

use diesel::dsl::exists;
use diesel::prelude::*;
use hookline_core::ids::{OperationalEventId, SubscriptionId};
use hookline_core::operational_events::WebhookDisabled;
use hookline_core::subscription::{DisabledReason, SubscriptionName};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::error::StoreError;
use crate::rows::organization;
use crate::schema::subscriptions;

/// A subscription as an attempt used it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AttemptTarget<'a> {
    pub(crate) subscription: SubscriptionId,
    pub(crate) url: &'a str,
    pub(crate) activation: i64,
}

pub(crate) struct DisableRequest {
    pub(crate) subscription: SubscriptionId,
    pub(crate) reason: DisabledReason,
    pub(crate) at: Timestamp,
}

backends!(
    with {
        outbox: crate::outbox::sql,
    }

    use backend::Conn;

    /// Whether a subscription still has the URL and the activation that an attempt was made with.
    pub(crate) fn is_unchanged(
        conn: &mut Conn,
        called: AttemptTarget<'_>,
    ) -> Result<bool, StoreError> {
        let same = subscriptions::table
            .filter(subscriptions::id.eq(called.subscription.0))
            .filter(subscriptions::url.eq(called.url))
            .filter(subscriptions::activation.eq(called.activation));
        Ok(diesel::select(exists(same)).get_result(conn)?)
    }

    /// Switches off an active subscription and writes an operational event to the outbox. `version` is the next version of
    /// this transaction.
    pub(crate) fn disable(
        conn: &mut Conn,
        disabling: DisableRequest,
        version: i64,
    ) -> Result<(), StoreError> {
        let DisableRequest {
            subscription,
            reason,
            at,
        } = disabling;
        let disabled: Option<(String, String, i64)> = diesel::update(subscriptions::table)
            .filter(subscriptions::id.eq(subscription.0))
            .filter(subscriptions::is_active)
            .filter(subscriptions::deleted_at.is_null())
            .set((
                subscriptions::is_active.eq(false),
                subscriptions::disabled_reason.eq(reason.as_str()),
                subscriptions::activation.eq(subscriptions::activation + 1),
                subscriptions::version.eq(version),
                subscriptions::updated_at.eq(at.unix_micros()),
            ))
            .returning((
                subscriptions::organization_id,
                subscriptions::name,
                subscriptions::activation,
            ))
            .get_result(conn)
            .optional()?;
        let Some((owner, name, activation)) = disabled else {
            return Ok(());
        };
        let owner = organization(&owner)?;
        let event = WebhookDisabled {
            id: OperationalEventId::of_disabling(&owner, subscription, activation),
            organization: owner,
            subscription,
            name: SubscriptionName::from_store(name),
            reason,
            at,
        };
        outbox::write(conn, &event)
    }
);
