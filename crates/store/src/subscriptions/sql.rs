//! Queries of subscriptions. Every change takes the next version while it holds the version row, so changes become
//! visible in the order of their versions.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::subscription::{
    Addressed, NewSubscription, Subscription, SubscriptionPatch, SubscriptionStatus,
};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::error::StoreError;
use crate::schema::{circuit_breakers, failing_subscriptions, subscription_counts, subscriptions};
use crate::subscriptions::rows::{
    CredentialColumns, ErasedColumns, InsertedColumns, PatchedColumns, SubscriptionRow,
    status_columns,
};
use crate::subscriptions::{CreateResult, Edit, Rotation, RotationResult};

/// Subscriptions in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

backends!(
    with {
        master_keys: crate::master_keys,
        subscription_version_queries: crate::subscription_version,
    }

    use backend::Conn;
    use subscription_version_queries::next_version;

    pub(crate) fn create(
        conn: &mut Conn,
        edit: Edit<'_>,
        new: &NewSubscription,
        limit: u32,
    ) -> Result<CreateResult, StoreError> {
        conn.transaction(|conn| {
            let version = next_version(conn)?;
            if count(conn, edit.owner)? >= i64::from(limit) {
                return Ok(CreateResult::LimitReached);
            }
            let id: i64 = diesel::insert_into(subscriptions::table)
                .values(InsertedColumns::new(new, edit, version))
                .returning(subscriptions::id)
                .get_result(conn)?;
            // A sealed value is bound to the id, which exists only now.
            let secret = new.secret.as_ref().map(|new| Some(new.secret().clone()));
            let changes = CredentialColumns::seal(edit, id, secret.as_ref(), Some(&new.headers))?;
            let changes = sealed(conn, edit, changes)?;
            let row: SubscriptionRow = diesel::update(subscriptions::table.find(id))
                .set(&changes)
                .returning(SubscriptionRow::as_returning())
                .get_result(conn)?;
            Ok(CreateResult::Subscription(row.try_into()?))
        })
    }

    /// Subscriptions with an id above `id`, in the order of ids.
    pub(crate) fn after(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: SubscriptionId,
        limit: u32,
    ) -> Result<Vec<Subscription>, StoreError> {
        let rows: Vec<SubscriptionRow> = subscriptions::table
            .filter(subscriptions::organization_id.eq(owner.as_str()))
            .filter(subscriptions::deleted_at.is_null())
            .filter(subscriptions::id.gt(id.0))
            .order(subscriptions::id)
            .limit(i64::from(limit))
            .select(SubscriptionRow::as_select())
            .load(conn)?;
        rows.into_iter().map(Subscription::try_from).collect()
    }

    pub(crate) fn find(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: SubscriptionId,
    ) -> Result<Option<Subscription>, StoreError> {
        find_row(conn, owner, id)?
            .map(Subscription::try_from)
            .transpose()
    }

    pub(crate) fn change(
        conn: &mut Conn,
        edit: Edit<'_>,
        to: &Addressed,
        patch: SubscriptionPatch,
    ) -> Result<Option<Subscription>, StoreError> {
        let Edit { owner, now, .. } = edit;
        if patch == SubscriptionPatch::default() {
            let found = find_addressed(conn, owner, to)?;
            return found.map(Subscription::try_from).transpose();
        }
        let id = to.id;
        conn.transaction(|conn| {
            let version = next_version(conn)?;
            let Some(row) = find_addressed(conn, owner, to)? else {
                return Ok(None);
            };
            let switched_off =
                row.is_active && matches!(patch.status, Some(SubscriptionStatus::Inactive(_)));
            let activation = row.activation + i64::from(switched_off);
            let mut failures_from = row.failures_from;
            let before = Subscription::try_from(row)?;
            let status = match (patch.status, before.status) {
                // If a user switches off a subscription that the system has switched off, the reason stays.
                (None, status)
                | (
                    Some(SubscriptionStatus::Inactive(_)),
                    status @ SubscriptionStatus::Inactive(_),
                ) => status,
                (Some(status), _) => status,
            };
            let switched_on =
                before.status != SubscriptionStatus::Active && status == SubscriptionStatus::Active;
            let moved = patch.url.as_ref().is_some_and(|url| *url != before.url);
            if switched_on || moved {
                failures_from = now.unix_micros();
                diesel::delete(failing_subscriptions::table.find(id.0)).execute(conn)?;
            }
            let (is_active, reason) = status_columns(status);
            let (secret, headers) = (patch.secret.as_ref(), patch.headers.as_ref());
            let credentials = CredentialColumns::seal(edit, id.0, secret, headers)?;
            let credentials = sealed(conn, edit, credentials)?;
            let changed: SubscriptionRow = diesel::update(subscriptions::table.find(id.0))
                .set((
                    PatchedColumns::from(&patch),
                    &credentials,
                    subscriptions::is_active.eq(is_active),
                    subscriptions::disabled_reason.eq(reason),
                    subscriptions::activation.eq(activation),
                    subscriptions::version.eq(version),
                    subscriptions::updated_at.eq(now.unix_micros()),
                    subscriptions::failures_from.eq(failures_from),
                ))
                .returning(SubscriptionRow::as_returning())
                .get_result(conn)?;
            Ok(Some(changed.try_into()?))
        })
    }

    /// Seals the credentials of a subscription, in a change that holds the version row.
    fn sealed(
        conn: &mut Conn,
        edit: Edit<'_>,
        columns: CredentialColumns,
    ) -> Result<CredentialColumns, StoreError> {
        if columns.is_sealed() {
            master_keys::ensure_proof(conn, edit.keyring)?;
        }
        Ok(columns)
    }

    pub(crate) fn rotate(
        conn: &mut Conn,
        edit: Edit<'_>,
        to: &Addressed,
        rotation: &Rotation,
    ) -> Result<Option<RotationResult>, StoreError> {
        let Edit { owner, now, .. } = edit;
        let id = to.id;
        conn.transaction(|conn| {
            let version = next_version(conn)?;
            let Some(row) = find_addressed(conn, owner, to)? else {
                return Ok(None);
            };
            let until = now.after(rotation.overlap);
            let previous_valid_until = (row.has_secret && until > now).then_some(until);
            // Copied as ciphertext, without decryption.
            let this = || subscriptions::table.find(id.0);
            if previous_valid_until.is_some() {
                diesel::update(this())
                    .set(subscriptions::previous_secret.eq(subscriptions::secret))
                    .execute(conn)?;
            }
            let secret = Some(rotation.secret.clone());
            let credentials = CredentialColumns::seal(edit, id.0, Some(&secret), None)?;
            let mut credentials = sealed(conn, edit, credentials)?;
            credentials.previous_secret_until =
                Some(previous_valid_until.map(Timestamp::unix_micros));
            if previous_valid_until.is_some() {
                credentials.previous_secret = None;
            }
            diesel::update(this())
                .set((
                    &credentials,
                    subscriptions::version.eq(version),
                    subscriptions::updated_at.eq(now.unix_micros()),
                ))
                .execute(conn)?;
            Ok(Some(RotationResult {
                previous_valid_until,
            }))
        })
    }

    pub(crate) fn forget_previous_secrets(
        conn: &mut Conn,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        diesel::update(subscriptions::table)
            .filter(subscriptions::previous_secret_until.le(now.unix_micros()))
            .set((
                subscriptions::previous_secret.eq(None::<Vec<u8>>),
                subscriptions::previous_secret_until.eq(None::<i64>),
            ))
            .execute(conn)?;
        Ok(())
    }

    /// Answers with the number of subscriptions.
    pub(crate) fn forget_deleted(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
        let some: Vec<i64> = subscriptions::table
            .filter(subscriptions::deleted_at.lt(cutoff.unix_micros()))
            // The same text as in the partial index.
            .filter(sql::<Bool>("name <> ''"))
            .order(subscriptions::deleted_at)
            .limit(FORGOTTEN_AT_ONCE)
            .select(subscriptions::id)
            .load(conn)?;
        Ok(
            diesel::update(subscriptions::table.filter(subscriptions::id.eq_any(some)))
                .set((subscriptions::name.eq(""), subscriptions::url.eq("")))
                .execute(conn)?,
        )
    }

    /// Erases URL, secrets and headers. The name stays for lists of deliveries; see [`forget_deleted`]. False when there is
    /// no such subscription.
    pub(crate) fn delete(
        conn: &mut Conn,
        owner: &OrganizationId,
        to: &Addressed,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        conn.transaction(|conn| {
            let version = next_version(conn)?;
            if find_addressed(conn, owner, to)?.is_none() {
                return Ok(false);
            }
            let deleted = diesel::update(subscriptions::table)
                .filter(subscriptions::id.eq(to.id.0))
                .filter(subscriptions::organization_id.eq(owner.as_str()))
                .filter(subscriptions::deleted_at.is_null())
                .set((
                    subscriptions::deleted_at.eq(now.unix_micros()),
                    ErasedColumns::default(),
                    subscriptions::version.eq(version),
                ))
                .execute(conn)?;
            diesel::delete(circuit_breakers::table.find(to.id.0)).execute(conn)?;
            Ok(deleted == 1)
        })
    }

    /// Triggers keep the count.
    pub(crate) fn count(conn: &mut Conn, owner: &OrganizationId) -> Result<i64, StoreError> {
        let count: Option<i64> = subscription_counts::table
            .find(owner.as_str())
            .select(subscription_counts::count)
            .get_result(conn)
            .optional()?;
        Ok(count.unwrap_or_default())
    }

    /// [`StoreError::Stale`] where the precondition fails. A caller that changes the row holds the version row, so the
    /// answer stays true.
    fn find_addressed(
        conn: &mut Conn,
        owner: &OrganizationId,
        to: &Addressed,
    ) -> Result<Option<SubscriptionRow>, StoreError> {
        let row = find_row(conn, owner, to.id)?;
        match &row {
            Some(row) if !to.precondition.holds(row.revision()) => Err(StoreError::Stale),
            _ => Ok(row),
        }
    }

    pub(crate) fn find_row(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: SubscriptionId,
    ) -> Result<Option<SubscriptionRow>, StoreError> {
        Ok(subscriptions::table
            .filter(subscriptions::id.eq(id.0))
            .filter(subscriptions::organization_id.eq(owner.as_str()))
            .filter(subscriptions::deleted_at.is_null())
            .select(SubscriptionRow::as_select())
            .first(conn)
            .optional()?)
    }
);
