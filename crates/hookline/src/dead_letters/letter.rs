//! Dead letters as text and JSON for an operator.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use comfy_table::{Table, TableStyle};
use hookline_core::event::Event;
use hookline_core::timestamp::Timestamp;
use hookline_core::wire;
use serde_json::{Map, Value, json};

use crate::dead_letters::selection::DeadLetterKind;
use crate::dead_letters::terminal_escape::{escaped, escaped_lines, hex_dump};

/// Characters of a reason in a table.
const REASON: usize = 100;

#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: String,
    pub(super) kind: DeadLetterKind,
    pub(super) reason: String,
    pub(super) since: Option<Timestamp>,
    /// Bytes of an event. None for a delivery.
    pub(super) size: Option<u64>,
    /// Ids and types, as far as they can be read.
    pub(super) about: Vec<(&'static str, String)>,
}

/// A page of the letters, and the number of all others.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) letters: Vec<Letter>,
    pub(super) more: u64,
}

#[derive(Debug)]
pub(super) struct LetterDetails {
    pub(super) letter: Letter,
    pub(super) content_type: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Data of a delivery in the store.
    pub(super) store: Vec<(&'static str, String)>,
}

impl Letter {
    pub(super) fn json(&self) -> Value {
        let mut object = json!({
            "id": self.id,
            "kind": self.kind.as_str(),
            "reason": self.reason,
            "since": self.since.map(|since| since.to_string()),
            "size": self.size,
        });
        for (name, value) in &self.about {
            object[*name] = json!(value);
        }
        object
    }

    fn about(&self) -> String {
        let about: Vec<String> = self
            .about
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)))
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
        let mut reason = escaped(&letter.reason);
        if let Some((end, _)) = reason.char_indices().nth(REASON) {
            reason.replace_range(end.., "…");
        }
        table.add_row([
            escaped(&letter.id),
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

impl LetterDetails {
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
            let _ = writeln!(text, "{}: {}", escaped(name), escaped(value));
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
                text.push_str(escaped_lines(body).trim_end());
                text.push('\n');
            }
            Err(_) => text.push_str(&hex_dump(&self.body)),
        }
        text
    }
}

/// Ids and types of events. The bytes may be invalid.
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
