//! Subscriptions: created, read, changed and deleted by their owners.

use std::time::Duration;

use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::secret::Secret;
use hookline_core::subscription::{Addressed, NewSubscription, Subscription, SubscriptionPatch};
use hookline_core::timestamp::Timestamp;

use crate::crypto::encryption::Keyring;
use crate::error::StoreError;
use crate::idempotency::Creation;
use crate::store::{Store, run};

pub(crate) mod disabling;
pub(crate) mod rows;
pub(crate) mod search;
pub(crate) mod sql;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateResult {
    Subscription(Subscription),
    /// The organization is at its limit of subscriptions.
    LimitReached,
}

/// Replaces the current secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    pub secret: Secret,
    /// How long the current secret also signs.
    pub overlap: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationResult {
    /// None without a previous secret or an overlap.
    pub previous_valid_until: Option<Timestamp>,
}

/// The owner, keys and time of a change.
#[derive(Clone, Copy)]
pub(crate) struct Edit<'a> {
    pub(crate) owner: &'a OrganizationId,
    pub(crate) keyring: &'a Keyring,
    pub(crate) now: Timestamp,
}

impl Store {
    /// `limit` is the most subscriptions of an organization.
    pub async fn create_subscription(
        &self,
        owner: OrganizationId,
        new: NewSubscription,
        limit: u32,
        making: impl Into<Creation<CreateResult>>,
    ) -> Result<CreateResult, StoreError> {
        let keyring = self.keyring()?;
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: sql| {
            let edit = Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            idempotency::once(conn, once, |conn| q::create(conn, edit, &new, limit))
        })
    }

    pub async fn subscription_count(&self, owner: OrganizationId) -> Result<u64, StoreError> {
        let count = run!(self, read, |conn, q: sql| q::count(conn, &owner))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    pub async fn subscription(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        run!(self, read, |conn, q: sql| q::find(conn, &owner, id))
    }

    /// The transaction of the change compares the revision: [`StoreError::Stale`] where the precondition fails.
    pub async fn change_subscription(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        patch: SubscriptionPatch,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError> {
        let to = to.into();
        let keyring = self.keyring()?;
        run!(self, write, |conn, q: sql| {
            let edit = Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::change(conn, edit, &to, patch)
        })
    }

    /// Replaces the secret; the current one also signs for a while. None when the organization has no such subscription.
    pub async fn rotate_secret(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        rotation: Rotation,
        making: impl Into<Creation<Option<RotationResult>>>,
    ) -> Result<Option<RotationResult>, StoreError> {
        let Creation { now, once } = making.into();
        let once = self.sealing(once)?;
        let to = to.into();
        let keyring = self.keyring()?;
        run!(self, write, |conn,
                           idempotency: crate::idempotency::sql,
                           q: sql| {
            let edit = Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            idempotency::once(conn, once, |conn| q::rotate(conn, edit, &to, &rotation))
        })
    }

    /// Deletes previous secrets after their overlap.
    pub async fn forget_previous_secrets(&self, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| {
            q::forget_previous_secrets(conn, now)
        })
    }

    /// False when the organization has no such subscription.
    pub async fn delete_subscription(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let to = to.into();
        run!(self, write, |conn, q: sql| q::delete(
            conn, &owner, &to, now
        ))
    }
}
