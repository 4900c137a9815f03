//! Subscriptions in responses.

use std::ops::Not;

use hookline_core::subscription::{Subscription, SubscriptionStatus};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::routes::response_size::Truncate;

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
