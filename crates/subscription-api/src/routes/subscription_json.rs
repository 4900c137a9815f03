//! The JSON forms of a subscription in responses.

use std::collections::BTreeMap;
use std::ops::Not;

use hookline_core::secret::Secret;
use hookline_core::subscription::{Subscription, SubscriptionStatus};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::routes::response_size::{Truncate, prefix};

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
    /// The event types that it receives, and wildcards, as they were given.
    #[schema(example = json!(["workflow.completed", "workflow.step.*"]))]
    events: Vec<String>,
    /// A text for people; empty by default.
    #[schema(example = "Books every finished run")]
    description: String,
    /// Texts of the customer's own.
    #[schema(example = json!({"customer": "c_42"}))]
    metadata: BTreeMap<String, String>,
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
            events: subscription.events.iter().map(|e| e.to_string()).collect(),
            description: subscription.description.as_str().to_owned(),
            metadata: subscription
                .metadata
                .iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            is_active: subscription.status == SubscriptionStatus::Active,
            created_at: subscription.created_at.to_string(),
            updated_at: subscription.updated_at.to_string(),
            has_secret: subscription.has_secret,
            header_names: subscription.header_names.clone(),
            disabled_reason,
        }
    }
}

/// A created subscription.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedSubscription {
    #[serde(flatten)]
    subscription: SubscriptionResponse,
    /// The generated secret, shown only once; absent if the request did not ask for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        required = false,
        nullable = false,
        example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
    )]
    secret: Option<String>,
}

impl CreatedSubscription {
    pub(crate) fn new(subscription: &Subscription, secret: Option<&Secret>) -> Self {
        Self {
            subscription: subscription.into(),
            secret: secret.map(|secret| secret.expose().to_owned()),
        }
    }
}

/// A subscription in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedSubscription {
    #[serde(flatten)]
    subscription: SubscriptionResponse,
    /// True if some `header_names` or `metadata` are left out, or the `description` is cut, because the page would exceed
    /// 1 MiB; otherwise absent. `GET /webhooks/{id}` has all of them.
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

    /// 100 rows without `header_names`, `description` and `metadata` fit into a page: with the longest names and URLs, and
    /// four bytes per character.
    fn truncate(&mut self, bytes: usize) {
        self.truncated = true;
        let shown = &mut self.subscription;
        let mut fits = within(bytes);
        shown.header_names.retain(|name| fits(name.len()));
        let mut fits = within(bytes);
        shown
            .metadata
            .retain(|key, value| fits(key.len() + value.len()));
        let cut = prefix(&shown.description, bytes).len();
        shown.description.truncate(cut);
    }
}

/// Whether the next value fits, with those before it, into this many bytes. The first that does not fit takes the rest.
fn within(bytes: usize) -> impl FnMut(usize) -> bool {
    let mut budget = bytes;
    move |length| {
        let rest = budget.checked_sub(length);
        budget = rest.unwrap_or_default();
        rest.is_some()
    }
}

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subscriptions {
    /// Newest first. With a cursor, a page may have fewer rows than `limit`, because it is at most 1 MiB. Without `limit`,
    /// the response has all rows, and its size is not limited.
    #[schema(value_type = Vec<ListedSubscription>)]
    pub(super) webhooks: Vec<Box<RawValue>>,
    /// Rows of all pages. Null for a page with filters in an organization with more than 10,000 subscriptions.
    #[schema(required = true)]
    pub(super) total: Option<u64>,
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
    use hookline_core::event_type::{EventPatterns, EventType};
    use hookline_core::ids::{OrganizationId, SubscriptionId};
    use hookline_core::subscription::{Description, Metadata, SubscriptionName};
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
            events: EventPatterns::new(vec![EventType::WorkflowFailed.into()]).unwrap(),
            description: Description::default(),
            metadata: Metadata::default(),
            has_secret: false,
            header_names: Vec::new(),
            status: SubscriptionStatus::Active,
            created_at: Timestamp::from_unix_micros(0),
            updated_at: Timestamp::from_unix_micros(0),
            version: id,
        }
    }
}
