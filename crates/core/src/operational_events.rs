//! Operational events: changes that the system makes by itself, for operators.

use serde::Serialize;

use crate::ids::{OperationalEventId, OrganizationId, SubscriptionId};
use crate::subscription::{DisabledReason, SubscriptionName};
use crate::timestamp::Timestamp;

/// The type of [`WebhookDisabled`], and its routing key.
pub const WEBHOOK_DISABLED: &str = "webhook.disabled";

/// The system has switched a subscription off. The URL is not part of it, because it may hold a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDisabled {
    /// The same however often the event is published.
    pub id: OperationalEventId,
    pub organization: OrganizationId,
    pub subscription: SubscriptionId,
    /// As it was then.
    pub name: SubscriptionName,
    pub reason: DisabledReason,
    pub at: Timestamp,
}

impl WebhookDisabled {
    pub fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Json<'a> {
            r#type: &'a str,
            id: OperationalEventId,
            organization_id: &'a OrganizationId,
            subscription_id: SubscriptionId,
            name: &'a str,
            reason: &'a str,
            at: Timestamp,
        }
        let json = Json {
            r#type: WEBHOOK_DISABLED,
            id: self.id,
            organization_id: &self.organization,
            subscription_id: self.subscription,
            name: self.name.as_str(),
            reason: self.reason.as_str(),
            at: self.at,
        };
        // Serialization of texts and numbers never fails.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_which_subscription_and_why_and_nothing_that_may_be_secret() {
        let organization = OrganizationId::parse("org_123").unwrap();
        let subscription = SubscriptionId(7);
        let disabled = WebhookDisabled {
            id: OperationalEventId::of_disabling(&organization, subscription, 1),
            organization,
            subscription,
            name: SubscriptionName::parse("billing \"new\"").unwrap(),
            reason: DisabledReason::Failing,
            at: Timestamp::parse("2025-12-21T10:30:00Z").unwrap(),
        };
        insta::assert_snapshot!(disabled.to_json(), @r#"{"type":"webhook.disabled","id":"aaf3502e-b1ad-5065-863f-8ea3e26d30b7","organization_id":"org_123","subscription_id":7,"name":"billing \"new\"","reason":"failing","at":"2025-12-21T10:30:00Z"}"#);
    }

    #[test]
    fn each_time_that_it_is_switched_off_is_another() {
        let organization = OrganizationId::parse("org_123").unwrap();
        let of = |subscription, activation| {
            OperationalEventId::of_disabling(
                &organization,
                SubscriptionId(subscription),
                activation,
            )
        };
        assert_eq!(of(7, 1), of(7, 1));
        assert_ne!(of(7, 1), of(7, 2));
        assert_ne!(of(7, 1), of(8, 1));
    }
}
