//! Rows of `subscriptions`: read, inserted, changed, and emptied by a deletion. A column is named in this file alone, except
//! where a query sets or compares it for a reason of its own.

use diesel::prelude::*;
use hookline_core::headers::CustomHeaders;
use hookline_core::ids::SubscriptionId;
use hookline_core::secret::Secret;
use hookline_core::subscription::{
    Description, DisabledReason, Metadata, NewSubscription, Revision, Subscription,
    SubscriptionName, SubscriptionPatch, SubscriptionStatus,
};
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;

use crate::crypto::credentials::{header_names_text, headers_bytes};
use crate::crypto::encryption::AssociatedData;
use crate::error::StoreError;
use crate::rows::{corrupt, list_text, organization, read_event_pattern, read_list, read_name};
use crate::schema::subscriptions;
use crate::subscriptions::Edit;

/// A row, as it is read.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = subscriptions)]
pub(crate) struct SubscriptionRow {
    pub(crate) id: i64,
    pub(crate) organization_id: String,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) events: String,
    pub(crate) description: String,
    pub(crate) metadata: String,
    #[diesel(select_expression = subscriptions::secret.is_not_null())]
    pub(crate) has_secret: bool,
    pub(crate) header_names: String,
    pub(crate) is_active: bool,
    pub(crate) disabled_reason: Option<String>,
    pub(crate) activation: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) failures_from: i64,
    pub(crate) version: i64,
}

impl SubscriptionRow {
    pub(crate) fn revision(&self) -> Revision {
        Revision {
            version: self.version,
            changed_at: Timestamp::from_unix_micros(self.updated_at),
        }
    }
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = StoreError;

    fn try_from(row: SubscriptionRow) -> Result<Self, StoreError> {
        let status = match (row.is_active, row.disabled_reason) {
            (true, _) => SubscriptionStatus::Active,
            (false, None) => SubscriptionStatus::Inactive(None),
            (false, Some(reason)) => {
                SubscriptionStatus::Inactive(Some(read_name("disabled_reason", &reason)?))
            }
        };
        Ok(Subscription {
            id: SubscriptionId(row.id),
            organization: organization(&row.organization_id)?,
            name: SubscriptionName::from_store(row.name),
            url: TargetUrl::from_store(row.url),
            events: read_list(&row.events, read_event_pattern)?,
            description: Description::from_store(row.description),
            metadata: serde_json::from_str(&row.metadata)
                .map(Metadata::from_store)
                .map_err(|why| corrupt("metadata", why))?,
            has_secret: row.has_secret,
            header_names: serde_json::from_str(&row.header_names)
                .map_err(|why| corrupt("header_names", why))?,
            status,
            created_at: Timestamp::from_unix_micros(row.created_at),
            updated_at: Timestamp::from_unix_micros(row.updated_at),
            version: row.version,
        })
    }
}

/// A row, as it is inserted. Its sealed values follow in a second statement: they are bound to the id.
#[derive(Insertable)]
#[diesel(table_name = subscriptions)]
pub(crate) struct InsertedColumns<'a> {
    organization_id: &'a str,
    name: &'a str,
    url: &'a str,
    events: String,
    description: &'a str,
    metadata: String,
    headers: Vec<u8>,
    header_names: &'a str,
    is_active: bool,
    activation: i64,
    version: i64,
    created_at: i64,
    updated_at: i64,
    failures_from: i64,
}

impl<'a> InsertedColumns<'a> {
    pub(crate) fn new(new: &'a NewSubscription, edit: Edit<'a>, version: i64) -> Self {
        let now = edit.now.unix_micros();
        Self {
            organization_id: edit.owner.as_str(),
            name: new.name.as_str(),
            url: new.url.as_str(),
            events: list_text(&new.events),
            description: new.description.as_str(),
            metadata: metadata_text(&new.metadata),
            headers: Vec::new(),
            header_names: "[]",
            is_active: new.status == SubscriptionStatus::Active,
            activation: 0,
            version,
            created_at: now,
            updated_at: now,
            failures_from: now,
        }
    }
}

/// The columns that a patch sets alone. The others depend on the row before.
#[derive(AsChangeset)]
#[diesel(table_name = subscriptions)]
pub(crate) struct PatchedColumns<'a> {
    name: Option<&'a str>,
    url: Option<&'a str>,
    events: Option<String>,
    description: Option<&'a str>,
    metadata: Option<String>,
}

impl<'a> From<&'a SubscriptionPatch> for PatchedColumns<'a> {
    fn from(patch: &'a SubscriptionPatch) -> Self {
        Self {
            name: patch.name.as_ref().map(SubscriptionName::as_str),
            url: patch.url.as_ref().map(TargetUrl::as_str),
            events: patch.events.as_ref().map(list_text),
            description: patch.description.as_ref().map(Description::as_str),
            metadata: patch.metadata.as_ref().map(metadata_text),
        }
    }
}

fn metadata_text(metadata: &Metadata) -> String {
    serde_json::to_string(metadata).unwrap_or_else(|_| "{}".to_owned())
}

/// The columns that a deletion empties. The name stays for lists of deliveries.
#[derive(AsChangeset)]
#[diesel(table_name = subscriptions, treat_none_as_null = true)]
pub(crate) struct ErasedColumns {
    url: &'static str,
    description: &'static str,
    metadata: &'static str,
    secret: Option<Vec<u8>>,
    previous_secret: Option<Vec<u8>>,
    previous_secret_until: Option<i64>,
    headers: Vec<u8>,
    header_names: &'static str,
}

impl Default for ErasedColumns {
    fn default() -> Self {
        Self {
            url: "",
            description: "",
            metadata: "{}",
            secret: None,
            previous_secret: None,
            previous_secret_until: None,
            headers: Vec::new(),
            header_names: "[]",
        }
    }
}

/// The sealed columns. A column with an outer `None` stays as it is, so that a change of another column and a rekey do not
/// undo one another.
#[derive(AsChangeset)]
#[diesel(table_name = subscriptions)]
pub(crate) struct CredentialColumns {
    secret: Option<Option<Vec<u8>>>,
    pub(crate) previous_secret: Option<Option<Vec<u8>>>,
    pub(crate) previous_secret_until: Option<Option<i64>>,
    headers: Option<Vec<u8>>,
    header_names: Option<String>,
}

impl CredentialColumns {
    /// A secret, or none, ends a rotation.
    pub(crate) fn seal(
        edit: Edit<'_>,
        id: i64,
        secret: Option<&Option<Secret>>,
        headers: Option<&CustomHeaders>,
    ) -> Result<Self, StoreError> {
        let seal = |place, value: &[u8]| edit.keyring.seal(place, value).map_err(StoreError::from);
        let secret = secret
            .map(|secret| {
                let text = secret.as_ref().map(|secret| secret.expose().as_bytes());
                text.map(|text| seal(AssociatedData::Secret(id), text))
                    .transpose()
            })
            .transpose()?;
        let sealed_headers = headers
            .map(|headers| match headers_bytes(headers) {
                bytes if bytes.is_empty() => Ok(bytes),
                bytes => seal(AssociatedData::Headers(id), &bytes),
            })
            .transpose()?;
        let ended = secret.is_some();
        Ok(Self {
            secret,
            previous_secret: ended.then_some(None),
            previous_secret_until: ended.then_some(None),
            headers: sealed_headers,
            header_names: headers.map(header_names_text),
        })
    }

    /// Whether a value is sealed, for which the store needs the proof of the key.
    pub(crate) fn is_sealed(&self) -> bool {
        let secret = matches!(&self.secret, Some(Some(_)));
        secret
            || self
                .headers
                .as_ref()
                .is_some_and(|headers| !headers.is_empty())
    }
}

pub(crate) fn status_columns(status: SubscriptionStatus) -> (bool, Option<&'static str>) {
    match status {
        SubscriptionStatus::Active => (true, None),
        SubscriptionStatus::Inactive(reason) => (false, reason.map(DisabledReason::as_str)),
    }
}
