//! Hostile events in JSON.

use anyhow::ensure;
use hookline_testkit::publisher;
use hookline_testkit::tenant::Tenant;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::typed;
use super::{Case, ExpectedOutcome, HOSTILE};

/// An organization that does not exist.
pub(super) const LATER_ORGANIZATION: &str = "org_nobody";

const LARGEST: usize = 256 * 1024;

pub(super) fn cases(tenant: &Tenant<'_>) -> anyhow::Result<Vec<Case>> {
    let mut cases = wrong_fields(tenant);
    cases.extend(data(tenant));
    cases.extend(sizes(tenant)?);
    cases.extend(no_json(tenant));
    cases.extend(properties(tenant));
    let mut later = tenant.event(HOSTILE);
    later["organization_id"] = LATER_ORGANIZATION.into();
    later["event_id"] = "evt_of_nobody".into();
    let later = later.to_string();
    cases.push(Case::of(
        "an unknown organization",
        publisher::json(),
        later,
        ExpectedOutcome::Unwanted,
    ));
    Ok(cases)
}

fn rejected(description: &str, body: impl Into<Vec<u8>>, reason: &str) -> Case {
    let outcome = ExpectedOutcome::Rejected(reason.to_owned());
    Case::of(description, publisher::json(), body, outcome)
}

/// An event with these bytes as its `data`.
fn with_data(tenant: &Tenant<'_>, data: &str) -> String {
    let (id, organization) = (Uuid::new_v4(), &tenant.organization);
    format!(
        r#"{{"event_id":"{id}","event_type":"{HOSTILE}","workflow_id":"w","organization_id":"{organization}","timestamp":"2025-12-21T10:30:00Z","data":{data}}}"#
    )
}

fn arrives(tenant: &Tenant<'_>, description: &str, data: &str) -> Case {
    let outcome = ExpectedOutcome::Delivered(format!("\"data\":{data}}}").into());
    Case::of(
        description,
        publisher::json(),
        with_data(tenant, data),
        outcome,
    )
}

fn wrong_fields(tenant: &Tenant<'_>) -> Vec<Case> {
    let good = tenant.event(HOSTILE);
    let fields = [
        "event_id",
        "event_type",
        "workflow_id",
        "organization_id",
        "timestamp",
        "data",
    ];
    let mut cases = Vec::new();
    for field in fields {
        let values = [
            json!(1),
            json!(true),
            Value::Null,
            json!([]),
            json!(-1e300),
            json!(""),
        ];
        for value in values
            .into_iter()
            .chain((field != "data").then(|| json!({})))
        {
            let description = format!("{field} that is {value}");
            let mut event = good.clone();
            event[field] = value;
            cases.push(rejected(
                &description,
                event.to_string(),
                &format!("{field}: "),
            ));
        }
        let mut event = good.to_string();
        event.insert_str(1, &format!("\"{field}\":{},", good[field]));
        cases.push(rejected(
            &format!("{field} twice"),
            event,
            &format!("{field}: is there twice"),
        ));
        let mut event = good.clone();
        event.as_object_mut().map(|event| event.remove(field));
        let reason = format!("{field}: is missing");
        cases.push(rejected(&format!("no {field}"), event.to_string(), &reason));
    }
    // The same name, written otherwise.
    let twice = good
        .to_string()
        .replacen('{', r#"{"event\u005fid":"other","#, 1);
    cases.push(rejected(
        "event_id twice in disguise",
        twice,
        "event_id: is there twice",
    ));
    for value in [
        r#""\ud800""#,
        r#""\u0000""#,
        r#""a\u202e\u0007""#,
        "1e400",
        &"9".repeat(100_000),
        &format!("\"{}\"", "x".repeat(200_000)),
    ] {
        let id = good["event_id"].to_string();
        let event = good.to_string().replacen(&id, value, 1);
        let description = format!("the event_id {}", &value[..value.len().min(20)]);
        cases.push(rejected(&description, event, "event_id: "));
    }
    cases
}

/// The content of `data` is between the publisher and the receiver.
fn data(tenant: &Tenant<'_>) -> Vec<Case> {
    let nested = |open: &str, close: &str, depth: usize| {
        format!("{{\"a\":{}1{}}}", open.repeat(depth), close.repeat(depth))
    };
    let mut cases = vec![
        arrives(tenant, "huge exponents", r#"{"a":1e400,"b":-1E-99999}"#),
        arrives(
            tenant,
            "100,000 digits",
            &format!("{{\"a\":{}}}", "7".repeat(100_000)),
        ),
        arrives(tenant, "keys twice in data", r#"{"a":1,"a":{"b":2,"b":3}}"#),
        arrives(tenant, "a lone surrogate", r#"{"a":"\ud800","\udfff":1}"#),
        arrives(tenant, "NUL as an escape", r#"{"\u0000":"\u0000"}"#),
        arrives(tenant, "white space", "{ \t\r\n\"a\" : [ ] }"),
        arrives(
            tenant,
            "names of objects' insides",
            r#"{"__proto__":{"a":1},"constructor":null}"#,
        ),
        arrives(
            tenant,
            "no character",
            "{\"a\":\"\u{fffe}\u{ffff}\u{10ffff}\"}",
        ),
    ];
    for depth in [126, 127, 128, 10_000] {
        let description = format!("{depth} arrays");
        cases.push(arrives(tenant, &description, &nested("[", "]", depth)));
        let description = format!("{depth} objects");
        cases.push(arrives(
            tenant,
            &description,
            &nested("{\"a\":", "}", depth),
        ));
    }
    cases
}

fn sizes(tenant: &Tenant<'_>) -> anyhow::Result<Vec<Case>> {
    let padding = LARGEST - with_data(tenant, r#"{"a":""}"#).len();
    let data = |more: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(padding + more));
    let largest = arrives(tenant, "256 KiB", &data(0));
    ensure!(largest.body.len() == LARGEST);
    let too_large = with_data(tenant, &data(1));
    let reason = "must have at most 262144 bytes";
    Ok(vec![
        largest,
        rejected("a byte more than 256 KiB", too_large, reason),
        rejected("4 MiB", vec![b'['; 4 * 1024 * 1024], reason),
    ])
}

fn no_json(tenant: &Tenant<'_>) -> Vec<Case> {
    let good = with_data(tenant, "{}");
    let with_raw = |raw: &[u8]| {
        let mut body = with_data(tenant, r#"{"a":"#).into_bytes();
        body.truncate(body.len() - 1);
        body.push(b'"');
        body.extend(raw);
        body.extend(b"\"}}");
        body
    };
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    [
        ("nothing", Vec::new()),
        ("NUL", vec![0]),
        ("a BOM", format!("\u{feff}{good}").into_bytes()),
        ("UTF-16", utf16),
        ("no UTF-8 in data", with_raw(b"\xc3\x28")),
        ("an overlong slash", with_raw(b"\xc0\xaf")),
        ("a surrogate in UTF-8", with_raw(b"\xed\xa0\x80")),
        ("NUL in data", with_raw(b"\0")),
        ("a line feed in a string", with_raw(b"\n")),
        ("arrays without an end", vec![b'['; 200_000]),
        ("objects without an end", b"{\"a\":".repeat(40_000)),
        ("an event and another", format!("{good}{good}").into_bytes()),
        ("NaN", with_data(tenant, r#"{"a":NaN}"#).into_bytes()),
        ("a comment", format!("/**/{good}").into_bytes()),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()),
    ]
    .into_iter()
    .map(|(description, body)| rejected(description, body, "is not valid JSON: "))
    .collect()
}

/// Other properties of a message.
fn properties(tenant: &Tenant<'_>) -> Vec<Case> {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongLongInt(i64::MIN));
    headers.insert("tracestate".into(), AMQPValue::FieldTable(headers.clone()));
    headers.insert("x-death".into(), AMQPValue::Boolean(true));
    headers.insert(
        "baggage".into(),
        AMQPValue::LongString("b".repeat(50_000).into()),
    );
    let unusual = publisher::json()
        .with_headers(headers)
        .with_timestamp(u64::MAX)
        .with_priority(255)
        .with_message_id("\u{1b}[2J".into())
        .with_reply_to("nobody".into());
    let rejected_with = |description, properties, reason: &str| {
        let outcome = ExpectedOutcome::Rejected(reason.to_owned());
        Case::of(description, properties, with_data(tenant, "{}"), outcome)
    };
    let mut arrives = arrives(tenant, "strange properties", r#"{"strange":true}"#);
    arrives.properties = unusual;
    let none = "is none of";
    vec![
        arrives,
        rejected_with("no content type", BasicProperties::default(), none),
        rejected_with("an empty one", typed(""), none),
        rejected_with("text", typed("text/plain"), none),
        rejected_with("the longest type", typed(&"x".repeat(255)), none),
        rejected_with(
            "Protobuf that is JSON",
            typed("application/x-protobuf"),
            "is not valid Protobuf: ",
        ),
    ]
}
