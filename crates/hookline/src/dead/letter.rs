//! How a dead letter looks to an operator.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, TableStyle};
use hookline_core::event::Event;
use hookline_core::timestamp::Timestamp;
use hookline_core::wire;
use serde_json::{Map, Value, json};

use crate::dead::Kind;
use crate::dead::safe::{hex, safe, safe_lines};

/// How much of a reason stands in a table.
const REASON: usize = 100;

/// A dead letter in a list.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) kind: Kind,
    pub(super) reason: String,
    pub(super) since: Option<Timestamp>,
    /// Bytes of an event. A delivery has its event's.
    pub(super) size: Option<u64>,
    /// What it is about, as far as that can be read: names and values.
    pub(super) about: Vec<(&'static str, String)>,
}

/// A dead letter whole.
#[derive(Debug)]
pub(super) struct Exhibit {
    pub(super) letter: Letter,
    pub(super) content_type: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// What the store says of a delivery: names and values.
    pub(super) store: Vec<(&'static str, String)>,
}

impl Letter {
    pub(super) fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("id".into(), json!(self.id));
        object.insert("kind".into(), json!(self.kind.as_str()));
        object.insert("reason".into(), json!(self.reason));
        object.insert(
            "since".into(),
            json!(self.since.map(|since| since.to_string())),
        );
        object.insert("size".into(), json!(self.size));
        for (name, value) in &self.about {
            object.insert((*name).into(), json!(value));
        }
        object.into()
    }

    fn about(&self) -> String {
        let about: Vec<String> = self
            .about
            .iter()
            .map(|(name, value)| format!("{name}={}", safe(value)))
            .collect();
        about.join(" ")
    }
}

pub(super) fn table(letters: &[Letter]) -> String {
    let mut table = Table::new();
    table
        .load_style(TableStyle::new())
        .set_header(["id", "kind", "since", "bytes", "about", "reason"]);
    for letter in letters {
        let since = letter.since.map_or("-".to_owned(), |at| at.to_string());
        let mut reason = safe(&letter.reason);
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.replace_range(end.., "…");
        }
        table.add_row([
            safe(&letter.id),
            letter.kind.as_str().to_owned(),
            since,
            letter.size.map_or("-".to_owned(), |size| size.to_string()),
            letter.about(),
            reason,
        ]);
    }
    let lines: Vec<String> = table
        .to_string()
        .lines()
        .map(|line| line.trim().to_owned())
        .collect();
    lines.join("\n") + "\n"
}

impl Exhibit {
    pub(super) fn json(&self) -> Value {
        let mut object = self.letter.json();
        let pairs = |pairs: Vec<(&str, &str)>| -> Value {
            let pairs = pairs.into_iter();
            pairs
                .map(|(name, value)| (name.to_owned(), json!(value)))
                .collect::<Map<_, _>>()
                .into()
        };
        object["content_type"] = json!(self.content_type);
        object["headers"] = pairs(self.headers.iter().map(|(n, v)| (&**n, &**v)).collect());
        object["store"] = pairs(self.store.iter().map(|(n, v)| (*n, &**v)).collect());
        match std::str::from_utf8(&self.body) {
            Ok(text) => object["body"] = json!(text),
            Err(_) => object["body_base64"] = json!(STANDARD.encode(&self.body)),
        }
        object
    }

    pub(super) fn text(&self) -> String {
        let letter = &self.letter;
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            let _ = writeln!(text, "{}: {}", safe(name), safe(value));
        };
        line("id", &letter.id);
        line("kind", letter.kind.as_str());
        if let Some(since) = letter.since {
            line("since", &since.to_string());
        }
        line("reason", &letter.reason);
        for (name, value) in &letter.about {
            line(name, value);
        }
        for (name, value) in &self.store {
            line(&format!("store: {name}"), value);
        }
        if let Some(content_type) = &self.content_type {
            line("content-type", content_type);
        }
        for (name, value) in &self.headers {
            line(&format!("header: {name}"), value);
        }
        line("bytes", &self.body.len().to_string());
        match std::str::from_utf8(&self.body) {
            Ok(body) => {
                text.push_str(safe_lines(body).trim_end());
                text.push('\n');
            }
            Err(_) => text.push_str(&hex(&self.body)),
        }
        text
    }
}

/// What events are about. Their bytes may be anything.
pub(super) fn about_events(content_type: Option<&str>, body: &[u8]) -> Vec<(&'static str, String)> {
    const FIELDS: [(&str, &str); 3] = [
        ("event_id", "event_id"),
        ("event_type", "event_type"),
        ("organization", "organization_id"),
    ];
    if content_type == Some(wire::PROTOBUF) {
        let event = Event::from_protobuf(body.to_vec().into());
        return event.map_or_else(
            |_| Vec::new(),
            |event| {
                vec![
                    ("event_id", event.id.to_string()),
                    ("event_type", event.event_type.as_str().to_owned()),
                    ("organization", event.organization.to_string()),
                ]
            },
        );
    }
    let value: Value = serde_json::from_slice(body).unwrap_or_default();
    let (first, count) = match &value {
        Value::Array(events) => (events.first().unwrap_or(&Value::Null), events.len()),
        event => (event, 1),
    };
    let mut about = Vec::new();
    if count != 1 {
        about.push(("events", count.to_string()));
    }
    for (name, field) in FIELDS {
        if let Some(text) = first.get(field).and_then(Value::as_str) {
            about.push((name, text.to_owned()));
        }
    }
    about
}
