//! Subscriptions, for whoever registers them; and those that are switched off, for operators.

use std::time::Duration;

use hookline_core::ids::{OperationId, OrganizationId, SubscriptionId};
use hookline_core::operations::WebhookDisabled;
use hookline_core::secret::Secret;
use hookline_core::subscription::{Addressed, NewSubscription, Subscription, SubscriptionPatch};
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{Created, Making, Rotated, Rotation, Window};
use crate::{postgres, sqlite};

impl Store {
    /// Makes a subscription, unless its organization has `limit` already.
    pub async fn create_subscription(
        &self,
        owner: OrganizationId,
        new: NewSubscription,
        limit: u32,
        making: impl Into<Making<Created>>,
    ) -> Result<Created, StoreError> {
        let keyring = self.keyring()?;
        let Making { now, once } = making.into();
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::repeats::once(conn, once, |conn| {
                q::subscriptions::create(conn, edit, &new, limit)
            })
        })
    }

    /// Some of an organization's subscriptions, newest first.
    pub async fn subscriptions(
        &self,
        owner: OrganizationId,
        window: Window,
    ) -> Result<Vec<Subscription>, StoreError> {
        run!(self, read, |conn, q| q::subscriptions::list(
            conn, &owner, window
        ))
    }

    /// How many subscriptions an organization has.
    pub async fn subscription_count(&self, owner: OrganizationId) -> Result<u64, StoreError> {
        let count = run!(self, read, |conn, q| q::subscriptions::count(conn, &owner))?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// One of an organization's subscriptions.
    pub async fn subscription(
        &self,
        owner: OrganizationId,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        run!(self, read, |conn, q| q::subscriptions::find(
            conn, &owner, id
        ))
    }

    /// Changes one of an organization's subscriptions. The revision is compared in the transaction
    /// that changes it: [`StoreError::Stale`] where it is another one than the change is meant for.
    pub async fn change_subscription(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        patch: SubscriptionPatch,
        now: Timestamp,
    ) -> Result<Option<Subscription>, StoreError> {
        let to = to.into();
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::subscriptions::change(conn, edit, &to, patch)
        })
    }

    /// Puts a secret in place of a subscription's present one, which signs, too, for a while; none
    /// when the organization has no such subscription.
    pub async fn rotate_secret(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        rotation: Rotation,
        making: impl Into<Making<Option<Rotated>>>,
    ) -> Result<Option<Rotated>, StoreError> {
        let Making { now, once } = making.into();
        let to = to.into();
        let keyring = self.keyring()?;
        run!(self, write, |conn, q| {
            let edit = q::subscriptions::Edit {
                owner: &owner,
                keyring: &keyring,
                now,
            };
            q::repeats::once(conn, once, |conn| {
                q::subscriptions::rotate(conn, edit, &to, &rotation)
            })
        })
    }

    /// The secret of a subscription, opened; none when there is no such subscription or secret.
    /// [`StoreError::Stale`] where it has another revision.
    pub async fn secret(
        &self,
        owner: OrganizationId,
        of: Addressed,
    ) -> Result<Option<Secret>, StoreError> {
        let keyring = self.keyring()?;
        let sealed = run!(self, read, |conn, q| q::subscriptions::sealed_secret(
            conn, &owner, &of
        ))?;
        let opened = sealed.map(|sealed| sealed.open(&keyring)).transpose();
        let opened = opened.map_err(|why| StoreError::Corrupt(why.to_string()))?;
        Ok(opened.and_then(|opened| Some(opened.secrets?.current)))
    }

    /// Forgets the secrets whose time after a rotation is over.
    pub async fn forget_previous_secrets(&self, now: Timestamp) -> Result<(), StoreError> {
        run!(self, write, |conn, q| {
            q::subscriptions::forget_previous_secrets(conn, now)
        })
    }

    /// Deletes one of an organization's subscriptions; false when there is none.
    pub async fn delete_subscription(
        &self,
        owner: OrganizationId,
        to: impl Into<Addressed>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let to = to.into();
        run!(self, write, |conn, q| q::subscriptions::delete(
            conn, &owner, &to, now
        ))
    }

    /// Switches off some subscriptions that had an exhausted delivery and whose every attempt has
    /// failed for so long, and answers with how many it looked at; 0 means that there are no more.
    pub async fn disable_failing(
        &self,
        failing_for: Duration,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q| q::failing::disable_failing(
            conn,
            now.before(failing_for),
            now
        ))
    }

    /// Some subscriptions that were switched off and that operators were not told of, oldest first.
    pub async fn untold(&self) -> Result<Vec<WebhookDisabled>, StoreError> {
        run!(self, read, |conn, q| q::operations::untold(conn))
    }

    /// Operators were told of these.
    pub async fn told(&self, ids: Vec<OperationId>) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::operations::forget(conn, &ids))
    }
}
