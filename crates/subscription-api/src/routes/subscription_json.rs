//! The JSON forms of a subscription: the documented bodies of POST and PATCH, which the core reads, and the responses.
//!
//! An optional field of a body has no `default` here: openapi-typescript would make it required.

use std::collections::BTreeSet;
use std::ops::Not;

use hookline_core::headers::MAX_HEADERS;
use hookline_core::subscription::{Subscription, SubscriptionStatus};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

use crate::routes::response_size::Truncate;
use crate::schemas::EventTypeName;

/// The body of `POST /webhooks`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
#[expect(dead_code, reason = "a form for the OpenAPI document")]
pub(crate) struct NewSubscriptionBody {
    /// 1 to 255 characters, no control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        example = "Billing"
    )]
    name: String,
    /// At most 2,048 characters: absolute, `https` only, without credentials and fragment.
    #[schema(
        max_length = 2048,
        format = "uri",
        example = "https://example.com/hooks"
    )]
    url: String,
    /// One or more event types, each at most once.
    #[schema(min_items = 1, max_items = 6)]
    events: BTreeSet<EventTypeName>,
    /// The key that signs every request, 1 to 255 characters. The text after `whsec_` must be base64.
    #[schema(
        min_length = 1,
        max_length = 255,
        nullable = false,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    )]
    secret: Option<String>,
    /// At most 20 headers, which every request has.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// Whether the subscription is active; true by default.
    #[schema(example = true, nullable = false)]
    is_active: Option<bool>,
}

/// The body of `PATCH /webhooks/{id}`. An absent field does not change.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = SubscriptionPatch, example = json!({"is_active": true}))]
#[expect(dead_code, reason = "a form for the OpenAPI document")]
pub(crate) struct SubscriptionPatchBody {
    /// 1 to 255 characters, no control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        nullable = false
    )]
    name: Option<String>,
    /// The new target, with the rules of `POST /webhooks`.
    #[schema(max_length = 2048, format = "uri", nullable = false)]
    url: Option<String>,
    /// One or more event types, each at most once. They replace the old ones.
    #[schema(min_items = 1, max_items = 6, nullable = false)]
    events: Option<BTreeSet<EventTypeName>>,
    /// The new secret; null removes the secret.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
    /// The new headers, which replace all old ones.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// True activates the subscription and clears `disabled_reason`.
    #[schema(nullable = false)]
    is_active: Option<bool>,
}

/// The description names the reserved names, which the schema cannot express.
fn custom_headers() -> Schema {
    let text = |pattern: &str| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
    };
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "Headers that every request has, at most 20 and 8 KiB in total. Names that Hookline sets are not allowed",
        ))
        .property_names(Some(text("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")))
        .additional_properties(Some(text("^([!-~]([ -~\\t]*[!-~])?)?$")))
        .max_properties(Some(MAX_HEADERS))
        .examples([json!({"X-Team": "billing"})])
        .into()
}

/// A subscription. It shows neither the secret nor the values of headers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Subscription)]
pub(crate) struct SubscriptionResponse {
    /// Never reused after a deletion.
    #[schema(example = 7)]
    id: i64,
    #[schema(example = "Billing")]
    name: String,
    /// The target of its events.
    #[schema(example = "https://example.com/hooks")]
    url: String,
    /// The event types that it receives.
    #[schema(example = json!(["workflow.completed", "workflow.failed"]))]
    events: Vec<&'static str>,
    /// Whether it receives events.
    is_active: bool,
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2025-12-21T10:30:00Z")]
    updated_at: String,
    /// Whether its requests are signed.
    has_secret: bool,
    /// The names of its custom headers.
    #[schema(example = json!(["X-Team"]))]
    header_names: Vec<String>,
    /// Why Hookline deactivated it: `gone` (its receiver answered 410) or `failing` (no attempt succeeded for too long).
    /// Null if Hookline did not.
    #[schema(required = true, example = json!(null))]
    disabled_reason: Option<&'static str>,
}

impl From<&Subscription> for SubscriptionResponse {
    fn from(subscription: &Subscription) -> Self {
        let disabled_reason = match subscription.status {
            SubscriptionStatus::Active => None,
            SubscriptionStatus::Inactive(reason) => reason.map(|reason| reason.as_str()),
        };
        Self {
            id: subscription.id.0,
            name: subscription.name.as_str().to_owned(),
            url: subscription.url.as_str().to_owned(),
            events: subscription.events.iter().map(|e| e.as_str()).collect(),
            is_active: subscription.status == SubscriptionStatus::Active,
            created_at: subscription.created_at.to_string(),
            updated_at: subscription.updated_at.to_string(),
            has_secret: subscription.has_secret,
            header_names: subscription.header_names.clone(),
            disabled_reason,
        }
    }
}

/// A subscription in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedSubscription {
    #[serde(flatten)]
    subscription: SubscriptionResponse,
    /// True if some `header_names` are left out, because the page would exceed 1 MiB; otherwise absent.
    /// `GET /webhooks/{id}` has all of them.
    #[serde(skip_serializing_if = "Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

impl From<&Subscription> for ListedSubscription {
    fn from(subscription: &Subscription) -> Self {
        Self {
            subscription: subscription.into(),
            truncated: false,
        }
    }
}

impl Truncate for ListedSubscription {
    fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// 100 rows without `header_names` fit into a page: with the longest names and URLs, and four bytes per character.
    fn truncate(&mut self, bytes: usize) {
        self.truncated = true;
        let mut budget = bytes;
        self.subscription.header_names.retain(|name| {
            let rest = budget.checked_sub(name.len());
            budget = rest.unwrap_or_default();
            rest.is_some()
        });
    }
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscriptions {
    /// Newest first. With a cursor, a page may have fewer rows than `limit`, because it is at most 1 MiB. Without `limit`,
    /// the response has all rows, and its size is not limited.
    #[schema(value_type = Vec<ListedSubscription>)]
    pub(super) webhooks: Vec<Box<RawValue>>,
    /// Rows of all pages.
    pub(super) total: u64,
    /// Rows of a page: the given value. Without one, `total`, or 50 with a cursor.
    pub(super) limit: u64,
    /// The given value; 0 with a cursor.
    pub(super) offset: u64,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required = true)]
    pub(super) next_cursor: Option<String>,
}

#[cfg(test)]
pub(super) mod tests {
    use hookline_core::event_type::{EventType, EventTypes};
    use hookline_core::ids::{OrganizationId, SubscriptionId};
    use hookline_core::subscription::SubscriptionName;
    use hookline_core::target::TargetUrl;
    use hookline_core::timestamp::Timestamp;

    use super::*;

    /// A subscription with this id and version.
    pub(crate) fn subscription(id: i64) -> Subscription {
        Subscription {
            id: SubscriptionId(id),
            organization: OrganizationId::parse("a").unwrap(),
            name: SubscriptionName::from_store("n"),
            url: TargetUrl::from_store("https://example.com"),
            events: EventTypes::new(vec![EventType::WorkflowFailed]).unwrap(),
            has_secret: false,
            header_names: Vec::new(),
            status: SubscriptionStatus::Active,
            created_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(0),
            version: id,
        }
    }
}
