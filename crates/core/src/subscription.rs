//! Subscriptions: the webhooks that customers register. A field has all its rules in this file: its type, and how it is
//! read from the bodies that create and change a subscription. An error names every bad field at once.

mod new_secret;
mod notes;
mod revision;
mod rotation;
mod status;

use serde_json::Value;

use crate::event_type::{EventPattern, EventPatterns};
use crate::fields::{Fields, distinct_list, invalid, secret, text};
use crate::headers::CustomHeaders;
use crate::ids::{OrganizationId, SubscriptionId};
use crate::secret::Secret;
use crate::target::{TargetRules, TargetUrl};
use crate::timestamp::Timestamp;
use crate::violations::Violations;

pub use new_secret::NewSecret;
pub use notes::{
    Description, MAX_DESCRIPTION, MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE,
    Metadata,
};
pub use revision::{Addressed, InvalidRevision, Precondition, Revision};
pub use rotation::{MAX_OVERLAP, SecretRotation};
pub use status::{DisabledReason, SubscriptionStatus};

/// The longest name, in characters.
pub const MAX_NAME: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub id: SubscriptionId,
    pub organization: OrganizationId,
    pub name: SubscriptionName,
    pub url: TargetUrl,
    pub events: EventPatterns,
    pub description: Description,
    pub metadata: Metadata,
    /// Whether its requests are signed. Only the signer reads the secret itself.
    pub has_secret: bool,
    /// Names of custom headers, in the order given.
    pub header_names: Vec<String>,
    pub status: SubscriptionStatus,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The number of its last change. The numbers count the changes of all subscriptions.
    pub version: i64,
}

impl Subscription {
    pub fn revision(&self) -> Revision {
        Revision {
            version: self.version,
            changed_at: self.updated_at,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    pub name: SubscriptionName,
    pub url: TargetUrl,
    pub events: EventPatterns,
    pub description: Description,
    pub metadata: Metadata,
    pub secret: Option<NewSecret>,
    pub headers: CustomHeaders,
    pub status: SubscriptionStatus,
}

/// A change of a subscription. Absent fields stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionPatch {
    pub name: Option<SubscriptionName>,
    pub url: Option<TargetUrl>,
    pub events: Option<EventPatterns>,
    pub description: Option<Description>,
    /// Replaces all pairs.
    pub metadata: Option<Metadata>,
    /// `Some(None)` removes the secret.
    pub secret: Option<Option<Secret>>,
    /// Replaces all headers.
    pub headers: Option<CustomHeaders>,
    /// `Active` also clears the reason of the system for switching it off.
    pub status: Option<SubscriptionStatus>,
}

impl NewSubscription {
    /// Reads the body of `POST /webhooks`. A generated secret is made from `random`.
    ///
    /// # Errors
    /// Every field that is missing, unknown or wrong.
    pub fn from_json(
        body: Value,
        rules: &TargetRules,
        random: [u8; 32],
    ) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a subscription")?;
        let name = fields.required("name", name);
        let url = fields.required("url", |value| url(value, rules));
        let events = fields.required("events", events);
        let description = fields.optional("description", Description::from_json);
        let metadata = fields.optional("metadata", Metadata::from_json);
        let secret = fields.optional("secret", |value| NewSecret::from_json(value, random));
        let headers = fields.optional("headers", headers);
        let status = fields.optional("is_active", status);
        fields.finish(|| {
            Some(Self {
                name: name?,
                url: url?,
                events: events?,
                description: description.unwrap_or_default(),
                metadata: metadata.unwrap_or_default(),
                secret,
                headers: headers.unwrap_or_default(),
                status: status.unwrap_or(SubscriptionStatus::Active),
            })
        })
    }
}

impl SubscriptionPatch {
    /// Reads the body of `PATCH /webhooks/{id}`.
    ///
    /// # Errors
    /// Every field that is unknown or wrong.
    pub fn from_json(body: Value, rules: &TargetRules) -> Result<Self, Violations> {
        let mut fields = Fields::of(body, "a subscription")?;
        let patch = Self {
            name: fields.optional("name", name),
            url: fields.optional("url", |value| url(value, rules)),
            events: fields.optional("events", events),
            description: fields.optional("description", Description::from_json),
            metadata: fields.optional("metadata", Metadata::from_json),
            secret: fields.optional("secret", |value| match value {
                Value::Null => Ok(None),
                value => secret(value).map(Some),
            }),
            headers: fields.optional("headers", headers),
            status: fields.optional("is_active", status),
        };
        fields.finish(|| Some(patch))
    }
}

fn name(value: Value) -> Result<SubscriptionName, Violations> {
    SubscriptionName::parse(text(value)?).map_err(invalid)
}

fn url(value: Value, rules: &TargetRules) -> Result<TargetUrl, Violations> {
    TargetUrl::parse(&text(value)?, rules).map_err(invalid)
}

fn events(value: Value) -> Result<EventPatterns, Violations> {
    distinct_list(value, EventPattern::parse)
}

fn status(value: Value) -> Result<SubscriptionStatus, Violations> {
    match value {
        Value::Bool(true) => Ok(SubscriptionStatus::Active),
        Value::Bool(false) => Ok(SubscriptionStatus::Inactive(None)),
        _ => Err(invalid("must be true or false")),
    }
}

fn headers(value: Value) -> Result<CustomHeaders, Violations> {
    let Value::Object(members) = value else {
        return Err(invalid("must be an object of strings"));
    };
    let mut violations = Violations::default();
    let mut headers = CustomHeaders::default();
    for (name, value) in members {
        let added = text(value).and_then(|value| headers.add(&name, &value).map_err(invalid));
        if let Err(inner) = added {
            violations.nest(&name, inner);
        }
    }
    if !headers.fits() {
        violations.add("", "must be at most 20 headers and 8 KiB in all");
    }
    violations.into_result(Some(headers))
}

/// A subscription's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionName(Box<str>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// 0 or more than [`MAX_NAME`] characters.
    #[error("must have 1 to {MAX_NAME} characters")]
    Length,
    #[error("must not have control characters")]
    ControlCharacter,
}

impl SubscriptionName {
    pub fn parse(text: impl Into<Box<str>>) -> Result<Self, InvalidName> {
        let text = text.into();
        if !(1..=MAX_NAME).contains(&text.chars().count()) {
            Err(InvalidName::Length)
        } else if text.chars().any(char::is_control) {
            Err(InvalidName::ControlCharacter)
        } else {
            Ok(Self(text))
        }
    }

    /// A name that was checked when it was stored.
    pub fn from_store(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn create(body: Value) -> Result<NewSubscription, Violations> {
        NewSubscription::from_json(body, &TargetRules::default(), [7; 32])
    }

    fn patch(body: Value) -> Result<SubscriptionPatch, Violations> {
        SubscriptionPatch::from_json(body, &TargetRules::default())
    }

    #[test]
    fn three_fields_are_enough() {
        let new = create(json!({
            "name": "n", "url": "https://example.com", "events": ["workflow.failed"],
        }))
        .unwrap();
        assert_eq!((new.secret, new.status), (None, SubscriptionStatus::Active));
    }

    #[test]
    fn every_bad_field_is_named_at_once() {
        let body = json!({
            "name": "", "url": 1, "events": ["workflow.failed", "nope", "workflow.failed", 3],
            "secret": null, "headers": {"Host": "h", "A": 1}, "is_active": "yes", "id": 1, "x": 2,
        });
        insta::assert_json_snapshot!(create(body).unwrap_err(), @r#"
        [
          {
            "field": "name",
            "message": "must have 1 to 255 characters"
          },
          {
            "field": "url",
            "message": "must be a string"
          },
          {
            "field": "events[1]",
            "message": "must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed, or a wildcard: workflow.*, workflow.step.*, *"
          },
          {
            "field": "events[2]",
            "message": "is there twice"
          },
          {
            "field": "events[3]",
            "message": "must be a string"
          },
          {
            "field": "secret",
            "message": "must be a string, or {\"generate\": true}"
          },
          {
            "field": "headers.A",
            "message": "must be a string"
          },
          {
            "field": "headers.Host",
            "message": "is reserved"
          },
          {
            "field": "is_active",
            "message": "must be true or false"
          },
          {
            "field": "id",
            "message": "is not a field of a subscription"
          },
          {
            "field": "x",
            "message": "is not a field of a subscription"
          }
        ]
        "#);
    }

    #[test]
    fn a_patch_distinguishes_absent_from_null() {
        assert_eq!(patch(json!({})).unwrap(), SubscriptionPatch::default());
        assert_eq!(patch(json!({"secret": null})).unwrap().secret, Some(None));
        for field in [
            "name",
            "url",
            "events",
            "description",
            "metadata",
            "headers",
            "is_active",
        ] {
            let violations = patch(json!({field: null})).unwrap_err();
            assert_eq!(violations.iter().next().unwrap().field, field);
        }
    }

    #[test]
    fn only_a_new_subscription_can_ask_for_a_generated_secret() {
        let new = |secret: Value| {
            let body = json!({
                "name": "n", "url": "https://example.com", "events": ["*"], "secret": secret,
            });
            create(body).map(|new| new.secret.unwrap())
        };
        let generated = new(json!({"generate": true})).unwrap();
        assert_eq!(generated.shown(), Some(&Secret::from_random([7; 32])));
        assert_eq!(new(json!("hush")).unwrap().shown(), None);
        for bad in [
            json!({"generate": false}),
            json!({}),
            json!({"generate": true, "x": 1}),
        ] {
            assert!(new(bad.clone()).is_err(), "{bad}");
        }
        assert!(patch(json!({"secret": {"generate": true}})).is_err());
    }

    #[test]
    fn a_body_that_is_not_an_object_is_refused() {
        for body in [json!([]), json!("a"), json!(null), json!(1)] {
            assert!(create(body.clone()).is_err() && patch(body).is_err());
        }
    }
}
