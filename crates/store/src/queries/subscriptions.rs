//! Subscriptions. Every change takes the next version while it holds the version row, so changes
//! become visible in the order of their versions.

use diesel::dsl::{exists, max, sql};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::fanout::{Ear, Listener, SubscriptionChange};
use hookline_core::headers::CustomHeaders;
use hookline_core::ids::{OperationId, OrganizationId, SubscriptionId};
use hookline_core::operations::WebhookDisabled;
use hookline_core::secret::Secret;
use hookline_core::subscription::{
    Addressed, DisabledReason, NewSubscription, Revision, Status, Subscription, SubscriptionName,
    SubscriptionPatch,
};
use hookline_core::timestamp::Timestamp;
use uuid::Uuid;

use super::super::Conn;
use super::{master_keys, operations};
use crate::credentials::{SealedCredentials, header_names_text, headers_bytes};
use crate::error::StoreError;
use crate::fanout_index::{News, Version};
use crate::records::{Created, Rotated, Rotation, Window};
use crate::rows::{SubscriptionRow, event_types_text, known_event_types, organization};
use crate::schema::{
    circuit_breakers, failing, subscription_counts, subscription_marks, subscription_version,
    subscriptions,
};
use crate::sealed::{Keyring, Place};

/// By whom something is changed, and when.
#[derive(Clone, Copy)]
pub(crate) struct Edit<'a> {
    pub(crate) owner: &'a OrganizationId,
    pub(crate) keyring: &'a Keyring,
    pub(crate) now: Timestamp,
}

pub(crate) fn create(
    conn: &mut Conn,
    edit: Edit<'_>,
    new: &NewSubscription,
    limit: u32,
) -> Result<Created, StoreError> {
    let Edit { owner, now, .. } = edit;
    conn.transaction(|conn| {
        let version = next_version(conn)?;
        if count(conn, owner)? >= i64::from(limit) {
            return Ok(Created::LimitReached);
        }
        let id: i64 = diesel::insert_into(subscriptions::table)
            .values((
                subscriptions::organization_id.eq(owner.as_str()),
                subscriptions::name.eq(new.name.as_str()),
                subscriptions::url.eq(new.url.as_str()),
                subscriptions::events.eq(event_types_text(&new.events)),
                subscriptions::headers.eq(Vec::new()),
                subscriptions::is_active.eq(new.status == Status::Active),
                subscriptions::activation.eq(0),
                subscriptions::version.eq(version),
                subscriptions::created_at.eq(now.unix_micros()),
                subscriptions::updated_at.eq(now.unix_micros()),
                subscriptions::failures_from.eq(now.unix_micros()),
            ))
            .returning(subscriptions::id)
            .get_result(conn)?;
        // What is sealed is bound to the id, which is there only now.
        let sealing = Sealing { conn, edit, id };
        let secret = new.secret.as_ref().map(|secret| Some(secret.clone()));
        let changes = sealing.credentials(secret.as_ref(), Some(&new.headers))?;
        let row: SubscriptionRow = diesel::update(subscriptions::table.find(id))
            .set(&changes)
            .returning(SubscriptionRow::as_returning())
            .get_result(conn)?;
        Ok(Created::Subscription(row.try_into()?))
    })
}

/// Newest first.
pub(crate) fn list(
    conn: &mut Conn,
    owner: &OrganizationId,
    window: Window,
) -> Result<Vec<Subscription>, StoreError> {
    let rows: Vec<SubscriptionRow> = subscriptions::table
        .filter(subscriptions::organization_id.eq(owner.as_str()))
        .filter(subscriptions::deleted_at.is_null())
        .filter(subscriptions::id.lt(window.before.map_or(i64::MAX, |id| id.0)))
        .order(subscriptions::id.desc())
        .limit(i64::from(window.limit))
        .offset(i64::try_from(window.offset).unwrap_or(i64::MAX))
        .select(SubscriptionRow::as_select())
        .load(conn)?;
    rows.into_iter().map(Subscription::try_from).collect()
}

/// Those with an id above `id`, in the order of their ids.
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
        let switched_off = row.is_active && matches!(patch.status, Some(Status::Inactive(_)));
        let activation = row.activation + i64::from(switched_off);
        let mut failures_from = row.failures_from;
        let before = Subscription::try_from(row)?;
        let status = match (patch.status, before.status) {
            // Switching off what the system has switched off keeps the reason.
            (None, status) | (Some(Status::Inactive(_)), status @ Status::Inactive(_)) => status,
            (Some(status), _) => status,
        };
        let switched_on = before.status != Status::Active && status == Status::Active;
        let moved = patch.url.as_ref().is_some_and(|url| *url != before.url);
        if switched_on || moved {
            failures_from = now.unix_micros();
            diesel::delete(failing::table.find(id.0)).execute(conn)?;
        }
        let (is_active, reason) = status_columns(status);
        let sealing = Sealing {
            conn,
            edit,
            id: id.0,
        };
        let credentials = sealing.credentials(patch.secret.as_ref(), patch.headers.as_ref())?;
        let changed: SubscriptionRow = diesel::update(subscriptions::table.find(id.0))
            .set((
                patch
                    .name
                    .map(|name| subscriptions::name.eq(name.as_str().to_owned())),
                patch
                    .url
                    .map(|url| subscriptions::url.eq(url.as_str().to_owned())),
                patch
                    .events
                    .map(|events| subscriptions::events.eq(event_types_text(&events))),
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

/// The columns of what is sealed. Those of the outer `None` stay as they are, so that a change of
/// something else and a rekey do not undo one another.
#[derive(AsChangeset)]
#[diesel(table_name = subscriptions)]
struct CredentialColumns {
    secret: Option<Option<Vec<u8>>>,
    previous_secret: Option<Option<Vec<u8>>>,
    previous_until: Option<Option<i64>>,
    headers: Option<Vec<u8>>,
    header_names: Option<String>,
}

/// Seals what belongs to one subscription, in a change that holds the version row.
struct Sealing<'a> {
    conn: &'a mut Conn,
    edit: Edit<'a>,
    id: i64,
}

impl Sealing<'_> {
    /// A secret, or none, ends a rotation.
    fn credentials(
        self,
        secret: Option<&Option<Secret>>,
        headers: Option<&CustomHeaders>,
    ) -> Result<CredentialColumns, StoreError> {
        let Self { conn, edit, id } = self;
        let seal = |place, value: &[u8]| edit.keyring.seal(place, value).map_err(StoreError::from);
        let secret = secret
            .map(|secret| {
                let text = secret.as_ref().map(|secret| secret.expose().as_bytes());
                text.map(|text| seal(Place::Secret(id), text)).transpose()
            })
            .transpose()?;
        let sealed_headers = headers
            .map(|headers| match headers_bytes(headers) {
                bytes if bytes.is_empty() => Ok(bytes),
                bytes => seal(Place::Headers(id), &bytes),
            })
            .transpose()?;
        let is_sealed = matches!(&secret, Some(Some(_)))
            || sealed_headers
                .as_ref()
                .is_some_and(|sealed| !sealed.is_empty());
        if is_sealed {
            master_keys::ensure_proof(conn, edit.keyring)?;
        }
        let ended = secret.is_some();
        Ok(CredentialColumns {
            secret,
            previous_secret: ended.then_some(None),
            previous_until: ended.then_some(None),
            headers: sealed_headers,
            header_names: headers.map(header_names_text),
        })
    }
}

/// Puts a secret in place of the present one, which becomes the one before. Answers with until when
/// that signs, too.
pub(crate) fn rotate(
    conn: &mut Conn,
    edit: Edit<'_>,
    to: &Addressed,
    rotation: &Rotation,
) -> Result<Option<Rotated>, StoreError> {
    let Edit { owner, now, .. } = edit;
    let id = to.id;
    conn.transaction(|conn| {
        let version = next_version(conn)?;
        let Some(row) = find_addressed(conn, owner, to)? else {
            return Ok(None);
        };
        let until = now.after(rotation.overlap);
        let previous_valid_until = (row.has_secret && until > now).then_some(until);
        // As it is stored: nobody has to open it.
        let this = || subscriptions::table.find(id.0);
        if previous_valid_until.is_some() {
            diesel::update(this())
                .set(subscriptions::previous_secret.eq(subscriptions::secret))
                .execute(conn)?;
        }
        let secret = Some(rotation.secret.clone());
        let sealing = Sealing {
            conn,
            edit,
            id: id.0,
        };
        let mut credentials = sealing.credentials(Some(&secret), None)?;
        credentials.previous_until = Some(previous_valid_until.map(Timestamp::unix_micros));
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
        Ok(Some(Rotated {
            previous_valid_until,
            revision: Revision {
                version,
                changed_at: now,
            },
        }))
    })
}

pub(crate) fn sealed_secret(
    conn: &mut Conn,
    owner: &OrganizationId,
    of: &Addressed,
) -> Result<Option<SealedCredentials>, StoreError> {
    conn.transaction(|conn| {
        let Some(row) = find_addressed(conn, owner, of)? else {
            return Ok(None);
        };
        let secret = subscriptions::table
            .find(row.id)
            .filter(subscriptions::version.eq(row.version))
            .select(subscriptions::secret)
            .first(conn)
            .optional()?;
        let secret = secret.ok_or(StoreError::Stale)?;
        Ok(Some(SealedCredentials {
            subscription: row.id,
            secret,
            ..SealedCredentials::default()
        }))
    })
}

/// How many deleted subscriptions are forgotten in one transaction.
const FORGOTTEN_AT_ONCE: i64 = 1_000;

/// Forgets the secrets that no longer sign.
pub(crate) fn forget_previous_secrets(conn: &mut Conn, now: Timestamp) -> Result<(), StoreError> {
    diesel::update(subscriptions::table)
        .filter(subscriptions::previous_until.le(now.unix_micros()))
        .set((
            subscriptions::previous_secret.eq(None::<Vec<u8>>),
            subscriptions::previous_until.eq(None::<i64>),
        ))
        .execute(conn)?;
    Ok(())
}

fn status_columns(status: Status) -> (bool, Option<&'static str>) {
    match status {
        Status::Active => (true, None),
        Status::Inactive(reason) => (false, reason.map(DisabledReason::as_str)),
    }
}

/// Forgets the name and the URL of some subscriptions that were deleted before `cutoff`. Answers with how many.
pub(crate) fn forget_deleted(conn: &mut Conn, cutoff: Timestamp) -> Result<usize, StoreError> {
    let some: Vec<i64> = subscriptions::table
        .filter(subscriptions::deleted_at.lt(cutoff.unix_micros()))
        // In the words of the index.
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

/// What later attempts would need is forgotten. The name stays for the stories of events; see [`forget_deleted`]. False
/// when there is none.
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
                subscriptions::url.eq(""),
                subscriptions::secret.eq(None::<Vec<u8>>),
                subscriptions::previous_secret.eq(None::<Vec<u8>>),
                subscriptions::previous_until.eq(None::<i64>),
                subscriptions::headers.eq(Vec::new()),
                subscriptions::header_names.eq("[]"),
                subscriptions::version.eq(version),
            ))
            .execute(conn)?;
        diesel::delete(circuit_breakers::table.find(to.id.0)).execute(conn)?;
        Ok(deleted == 1)
    })
}

/// A subscription as an attempt found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Called<'a> {
    pub(crate) subscription: SubscriptionId,
    pub(crate) url: &'a str,
    pub(crate) activation: i64,
}

/// Whether a subscription still has the URL and the activation that an attempt was made with.
pub(crate) fn is_unchanged(conn: &mut Conn, called: Called<'_>) -> Result<bool, StoreError> {
    let same = subscriptions::table
        .filter(subscriptions::id.eq(called.subscription.0))
        .filter(subscriptions::url.eq(called.url))
        .filter(subscriptions::activation.eq(called.activation));
    Ok(diesel::select(exists(same)).get_result(conn)?)
}

/// That the system switches a subscription off.
pub(crate) struct Disabling {
    pub(crate) subscription: SubscriptionId,
    pub(crate) reason: DisabledReason,
    pub(crate) at: Timestamp,
}

/// Switches a subscription off, unless it is off already, and writes down that operators are to be
/// told. `version` is the [`next_version`] of this transaction.
pub(crate) fn disable(
    conn: &mut Conn,
    disabling: Disabling,
    version: i64,
) -> Result<(), StoreError> {
    let Disabling {
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
        id: OperationId::of_disabling(&owner, subscription, activation),
        organization: owner,
        subscription,
        name: SubscriptionName::from_store(name),
        reason,
        at,
    };
    operations::write(conn, &event)
}

/// How many of the last versions have their mark.
const MARKS: i64 = 1_000;

/// What an index that knows this version has to learn.
pub(crate) fn news_since(conn: &mut Conn, known: Version) -> Result<News, StoreError> {
    let newest: Option<i64> = subscriptions::table
        .select(max(subscriptions::version))
        .get_result(conn)?;
    let newest = newest.unwrap_or_default();
    if newest < known.number || mark_of(conn, known.number)? != known.mark {
        let (changes, version) = changes_since(conn, 0)?;
        return Ok(News::Anew(changes, version));
    }
    if newest == known.number {
        return Ok(News::Nothing);
    }
    let (changes, version) = changes_since(conn, known.number)?;
    Ok(News::Since(changes, version))
}

fn mark_of(conn: &mut Conn, version: i64) -> Result<Option<i64>, StoreError> {
    Ok(subscription_marks::table
        .find(version)
        .select(subscription_marks::mark)
        .first(conn)
        .optional()?)
}

/// What changed after `version`, and the newest version seen.
fn changes_since(
    conn: &mut Conn,
    version: i64,
) -> Result<(Vec<SubscriptionChange>, Version), StoreError> {
    type Row = (i64, String, String, bool, i64, i64, Option<i64>);
    let rows: Vec<Row> = subscriptions::table
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
        let ear = match is_active {
            true => Ear::Open,
            false => Ear::Closed,
        };
        changes.push(SubscriptionChange {
            organization: organization(&owner)?,
            subscription,
            listener: deleted_at.is_none().then_some(Listener {
                subscription,
                wants,
                activation,
                ear,
            }),
        });
    }
    let version = Version {
        number: newest,
        mark: mark_of(conn, newest)?,
    };
    Ok((changes, version))
}

/// Locks out whoever else changes subscriptions, until the end of the transaction.
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

/// Triggers keep the count.
pub(crate) fn count(conn: &mut Conn, owner: &OrganizationId) -> Result<i64, StoreError> {
    let count: Option<i64> = subscription_counts::table
        .find(owner.as_str())
        .select(subscription_counts::count)
        .get_result(conn)
        .optional()?;
    Ok(count.unwrap_or_default())
}

/// The subscription if it has a revision that the change is meant for. Whoever changes it afterwards
/// holds the version row, so that it is still so then.
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
