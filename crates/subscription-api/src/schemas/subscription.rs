//! Bodies that create and change a subscription.

use std::collections::BTreeSet;

use hookline_core::headers::MAX_HEADERS;
use hookline_core::subscription::{MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, OneOfBuilder, Schema, Type};

use super::EventPatternName;

/// The body of `POST /webhooks`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewSubscription)]
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
        format = "iri",
        example = "https://example.com/hooks"
    )]
    url: String,
    /// One or more event types and wildcards, each at most once. They are kept as written.
    #[schema(min_items = 1)]
    events: BTreeSet<EventPatternName>,
    /// A text for people, at most 1,024 characters on any number of lines; empty by default.
    #[schema(
        max_length = 1024,
        pattern = "^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f]*$",
        nullable = false,
        example = "Books every finished run"
    )]
    description: Option<String>,
    #[schema(schema_with = metadata)]
    metadata: Option<Value>,
    #[schema(schema_with = new_secret)]
    secret: Option<Value>,
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
    #[schema(max_length = 2048, format = "iri", nullable = false)]
    url: Option<String>,
    /// One or more event types and wildcards, each at most once. They replace the old ones.
    #[schema(min_items = 1, nullable = false)]
    events: Option<BTreeSet<EventPatternName>>,
    /// The new text; "" removes it.
    #[schema(
        max_length = 1024,
        pattern = "^[^\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f]*$",
        nullable = false
    )]
    description: Option<String>,
    /// The new pairs, which replace all old ones.
    #[schema(schema_with = metadata)]
    metadata: Option<Value>,
    /// The new secret; null removes the secret. A rotation generates one.
    #[schema(min_length = 1, max_length = 255)]
    secret: Option<String>,
    /// The new headers, which replace all old ones.
    #[schema(schema_with = custom_headers)]
    headers: Option<Value>,
    /// True activates the subscription and clears `disabled_reason`.
    #[schema(nullable = false)]
    is_active: Option<bool>,
}

/// A text, or an order to generate one.
fn new_secret() -> Schema {
    let given = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(255));
    let generate = ObjectBuilder::new()
        .schema_type(Type::Boolean)
        .enum_values(Some([true]));
    let generated = ObjectBuilder::new()
        .schema_type(Type::Object)
        .property("generate", generate)
        .required("generate")
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    OneOfBuilder::new()
        .description(Some(
            "The key that signs every request: 1 to 255 characters, and the text after `whsec_` must be base64. \
             Or an order to generate one, which the response shows",
        ))
        .item(given)
        .item(generated)
        .examples([json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")])
        .into()
}

fn metadata() -> Schema {
    let text = |pattern: &str, most: usize| {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .pattern(Some(pattern))
            .max_length(Some(most))
    };
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some(
            "Texts of the customer's own, at most 16, such as ids of another system. Hookline does not read them, \
             and does not encrypt them",
        ))
        .property_names(Some(
            text("^[^\\u0000-\\u001f\\u007f-\\u009f]+$", MAX_METADATA_KEY).min_length(Some(1)),
        ))
        .additional_properties(Some(text(
            "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
            MAX_METADATA_VALUE,
        )))
        .max_properties(Some(MAX_METADATA_PAIRS))
        .examples([json!({"customer": "c_42"})])
        .into()
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
