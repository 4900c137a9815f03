//! The fields of a subscription that customers set, one row each. The scenarios of creation, change, null and bounds read
//! the rows.

use serde_json::{Map, Value, json};

/// A field, and the values with which scenarios try it.
pub(crate) struct FieldCase {
    pub(crate) name: &'static str,
    /// The value at the creation.
    pub(crate) created: Value,
    /// The values of patches, in this order. A field without null among them refuses null.
    pub(crate) patched: Vec<Value>,
    pub(crate) accepted: Vec<Value>,
    /// Values with the path that the response names.
    pub(crate) refused: Vec<(Value, &'static str)>,
}

impl FieldCase {
    pub(crate) fn is_nullable(&self) -> bool {
        self.patched.contains(&Value::Null)
    }

    /// The member of a response that shows `value`, and its value there.
    pub(crate) fn shown(&self, value: &Value) -> (&'static str, Value) {
        match (self.name, value) {
            ("secret", value) => ("has_secret", json!(!value.is_null())),
            ("headers", Value::Object(headers)) => {
                let names: Vec<&String> = headers.keys().collect();
                ("header_names", json!(names))
            }
            (name, value) => (name, value.clone()),
        }
    }
}

/// A body of `POST /webhooks` with every field.
pub(crate) fn created() -> Value {
    let members = fields()
        .into_iter()
        .map(|field| (field.name.to_owned(), field.created));
    Value::Object(Map::from_iter(members))
}

pub(crate) fn fields() -> Vec<FieldCase> {
    vec![
        name(),
        url(),
        events(),
        description(),
        metadata(),
        secret(),
        headers(),
        is_active(),
    ]
}

fn name() -> FieldCase {
    let accepted = [
        "n".to_owned(),
        " ".to_owned(),
        " ".repeat(255),
        "é".repeat(255),
        "😀".repeat(255),
        "\u{a0}\"\\</b>".to_owned(),
    ];
    let too_short_or_long = [String::new(), "n".repeat(256), "é".repeat(256)];
    let control = ["a\nb", "a\u{0}", "\t", "\u{7f}", "\u{85}", "\u{9f}"];
    let no_string = [json!(1), json!(["n"]), json!({}), json!(true)];
    let refused = too_short_or_long.into_iter().map(Value::from);
    let refused = refused.chain(control.map(Value::from)).chain(no_string);
    FieldCase {
        name: "name",
        created: json!("Billing ✓"),
        patched: vec![json!("after")],
        accepted: accepted.map(Value::from).into(),
        refused: refused.map(|value| (value, "name")).collect(),
    }
}

/// Absolute, with at most 2,048 characters.
fn url() -> FieldCase {
    let of = |length: usize, letter: &str| {
        let start = "https://example.com/";
        json!(format!("{start}{}", letter.repeat(length - start.len())))
    };
    let accepted = [
        "https://example.com",
        "HTTPS://Example.com:8443/a%20b?c=d&e",
        "https://bücher.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/",
    ];
    let refused = [
        "",
        "/hooks",
        "example.com",
        "//example.com",
        "https:example.com",
        "https://",
        " https://example.com",
        "https://exam\nple.com",
        "https://example.com:99999",
        "ftp://example.com",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https://user@example.com",
        "https://user:pass@example.com",
        "https://:pass@example.com",
        "https://example.com/#",
        "https://example.com/#fragment",
    ];
    let lengths = [of(2047, "a"), of(2048, "a"), of(2048, "é")];
    let too_long = [of(2049, "a"), of(2049, "é")];
    let no_string = [json!(1), json!(["https://example.com"])];
    let refused = refused.map(Value::from).into_iter().chain(too_long);
    FieldCase {
        name: "url",
        created: json!("https://example.com/h?a=b"),
        patched: vec![json!("https://example.com/after")],
        accepted: lengths
            .into_iter()
            .chain(accepted.map(Value::from))
            .collect(),
        refused: refused
            .chain(no_string)
            .map(|value| (value, "url"))
            .collect(),
    }
}

/// One or more event types and wildcards, and none twice.
fn events() -> FieldCase {
    let all = [
        "workflow.step.failed",
        "workflow.started",
        "workflow.completed",
        "workflow.step.completed",
        "workflow.failed",
        "workflow.step.started",
    ];
    let unknown = [
        "",
        "workflow",
        "Workflow.failed",
        "workflow.failed ",
        "**",
        "work*",
        "*.failed",
        "workflow.step",
        "order.*",
    ];
    let wildcards = ["workflow.*", "workflow.step.*", "*"];
    let seven: Vec<_> = all.iter().chain(&all[..1]).collect();
    let mut refused = vec![
        (json!([]), "events"),
        (json!(seven), "events[6]"),
        (json!([all[0], all[1], all[0]]), "events[2]"),
        (json!(["*", all[1], "*"]), "events[2]"),
    ];
    refused.extend(unknown.map(|name| (json!([all[0], name]), "events[1]")));
    refused
        .extend([json!(1), Value::Null, json!([])].map(|no_name| (json!([no_name]), "events[0]")));
    refused.extend([json!(all[0]), json!({}), json!(1)].map(|no_array| (no_array, "events")));
    FieldCase {
        name: "events",
        created: json!(["workflow.step.failed", "workflow.started"]),
        patched: vec![
            json!(["workflow.started", "workflow.failed"]),
            json!(["workflow.*", "workflow.started"]),
        ],
        accepted: all
            .iter()
            .chain(&wildcards)
            .map(|name| json!([name]))
            .chain([json!(all), json!(wildcards)])
            .collect(),
        refused,
    }
}

/// At most 1,024 characters on any number of lines.
fn description() -> FieldCase {
    let accepted = ["", "one\n\ttwo", &"😀".repeat(1_024)];
    let control = ["a\r", "\u{0}", "\u{1b}[31m", "\u{9b}"];
    let refused = control.map(Value::from).into_iter();
    let refused = refused.chain([json!("é".repeat(1_025)), json!(1), json!(["n"])]);
    FieldCase {
        name: "description",
        created: json!("Books\nevery run"),
        patched: vec![json!("after"), json!("")],
        accepted: accepted.map(Value::from).into(),
        refused: refused.map(|value| (value, "description")).collect(),
    }
}

/// At most 16 pairs.
fn metadata() -> FieldCase {
    let pairs = |count: usize| {
        let pairs = (0..count).map(|index| (format!("k{index}"), json!("v")));
        Value::Object(pairs.collect())
    };
    FieldCase {
        name: "metadata",
        created: json!({"customer": "c_42", "é": ""}),
        patched: vec![json!({"another": "one"}), json!({})],
        accepted: vec![pairs(16), json!({"é".repeat(64): "😀".repeat(255)})],
        refused: vec![
            (pairs(17), "metadata"),
            (json!([]), "metadata"),
            (json!("a"), "metadata"),
            (json!({"k": 1}), "metadata.k"),
            (json!({"k": null}), "metadata.k"),
            (json!({"k": "a\n"}), "metadata.k"),
            (json!({"k": "v".repeat(256)}), "metadata.k"),
        ],
    }
}

/// 1 to 255 characters.
fn secret() -> FieldCase {
    let accepted = [
        "s".to_owned(),
        " ".to_owned(),
        "s".repeat(255),
        "😀".repeat(255),
        "whsec".to_owned(),
        "Whsec_?".to_owned(),
        "whsec_AA==".to_owned(),
    ];
    let refused = [
        json!(""),
        json!("s".repeat(256)),
        json!("é".repeat(256)),
        json!("whsec_"),
        json!("whsec_?"),
        json!("whsec_abc"),
        json!(1),
        json!({}),
        json!({"generate": false}),
        json!({"generate": "true"}),
        json!(false),
    ];
    FieldCase {
        name: "secret",
        created: json!("hush-hush"),
        patched: vec![Value::Null, Value::Null, json!("again")],
        accepted: accepted.map(Value::from).into(),
        refused: refused.map(|value| (value, "secret")).into(),
    }
}

/// The scenarios of custom headers have the bounds.
fn headers() -> FieldCase {
    FieldCase {
        name: "headers",
        created: json!({"Authorization": "quiet", "X-Team": "quiet-quiet"}),
        patched: vec![json!({"X-C": "3"}), json!({})],
        accepted: Vec::new(),
        refused: Vec::new(),
    }
}

fn is_active() -> FieldCase {
    let refused = [json!("true"), json!(1), json!([])];
    FieldCase {
        name: "is_active",
        created: json!(false),
        patched: vec![json!(true), json!(false)],
        accepted: vec![json!(false), json!(true)],
        refused: refused.map(|value| (value, "is_active")).into(),
    }
}
