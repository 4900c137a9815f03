//! Reads JSON Lines as events, one at a time. A line that is too long is not kept, because a file without line breaks
//! would fill the memory.

use std::io::{self, BufRead};

use hookline_core::event::{Event, MAX_EVENT_BYTES, MissingId};
use hookline_core::ids::{EventId, OrganizationId};

/// A line may end in `\r`, and one byte more shows that a line is too long.
const KEPT: usize = MAX_EVENT_BYTES + 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    /// An event without an id is refused.
    Required,
    /// An event without an id gets a random one, so that sending it again is idempotent.
    Given,
}

#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) ids: Ids,
    /// Replaces the organization of every event.
    pub(super) organization: Option<OrganizationId>,
}

/// U+FEFF, which some editors write at the start of a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InputLine {
    /// Counted from 1, with blank lines.
    pub(super) number: u64,
    /// The offset in the input after the line, in bytes.
    pub(super) end: u64,
    /// The event, or the reason why the line is none.
    pub(super) event: Result<Event, String>,
}

/// An event and the number of its line.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberedEvent<'a> {
    pub(super) line: u64,
    pub(super) event: &'a Event,
}

#[derive(Debug)]
pub(super) struct Lines<R> {
    input: R,
    rules: Rules,
    number: u64,
    end: u64,
    kept: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R, rules: Rules) -> Self {
        Self {
            input,
            rules,
            number: 0,
            end: 0,
            kept: Vec::new(),
        }
    }

    /// None at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<InputLine>> {
        while self.read()? {
            let kept = self.kept.strip_suffix(b"\r").unwrap_or(&self.kept);
            let kept = match self.number {
                1 => kept.strip_prefix(BYTE_ORDER_MARK).unwrap_or(kept),
                _ => kept,
            };
            if kept.len() <= MAX_EVENT_BYTES && kept.trim_ascii().is_empty() {
                continue;
            }
            return Ok(Some(InputLine {
                number: self.number,
                end: self.end,
                event: event(kept, &self.rules),
            }));
        }
        Ok(None)
    }

    /// Keeps the start of the next line, without its line break. False at the end.
    fn read(&mut self) -> io::Result<bool> {
        self.kept.clear();
        let begin = self.end;
        loop {
            let there = match self.input.fill_buf() {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                there => there?,
            };
            let line_break = there.iter().position(|byte| *byte == b'\n');
            let of_line = &there[..line_break.unwrap_or(there.len())];
            let room = KEPT - self.kept.len();
            self.kept
                .extend_from_slice(&of_line[..of_line.len().min(room)]);
            let at_end = there.is_empty();
            let used = line_break.map_or(there.len(), |index| index + 1);
            self.input.consume(used);
            self.end += used as u64;
            if line_break.is_some() || at_end {
                self.number += 1;
                return Ok(self.end > begin);
            }
        }
    }
}

fn event(line: &[u8], rules: &Rules) -> Result<Event, String> {
    if line.starts_with(BYTE_ORDER_MARK) {
        return Err("begins with a byte order mark (U+FEFF): remove it".to_owned());
    }
    let missing = match rules.ids {
        Ids::Required => MissingId::Refused,
        Ids::Given => {
            let id = format!("evt_{:032x}", rand::random::<u128>());
            EventId::parse(id).map_or(MissingId::Refused, MissingId::Given)
        }
    };
    let event = Event::from_json(line, missing).map_err(|why| {
        // The JSON of a line has one line.
        why.to_string().replace("at line 1 column", "at column")
    })?;
    match &rules.organization {
        Some(organization) => moved(&event, organization),
        None => Ok(event),
    }
}

/// The same event in another organization. Outside of strings, where quotes are escaped, the body has each name of the
/// envelope once.
fn moved(event: &Event, to: &OrganizationId) -> Result<Event, String> {
    let body = std::str::from_utf8(&event.body).map_err(|why| why.to_string())?;
    let (before, rest) = body
        .split_once(ORGANIZATION)
        .ok_or("has no organization_id")?;
    let (_, after) = rest.split_once(TIMESTAMP).ok_or("has no timestamp")?;
    let to = serde_json::Value::from(to.as_str());
    let body = format!("{before}{ORGANIZATION}{to}{TIMESTAMP}{after}");
    Event::from_json(body.as_bytes(), MissingId::Refused).map_err(|why| why.to_string())
}

const ORGANIZATION: &str = r#","organization_id":"#;
const TIMESTAMP: &str = r#","timestamp":"#;

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"e","event_type":"workflow.failed","workflow_id":"w","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{}}"#;

    fn rules(ids: Ids) -> Rules {
        Rules {
            ids,
            organization: None,
        }
    }

    fn read(input: &[u8], ids: Ids) -> Vec<InputLine> {
        // A pipe may give as few bytes at a time.
        let mut lines = Lines::new(io::BufReader::with_capacity(7, input), rules(ids));
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    fn numbers(lines: &[InputLine]) -> Vec<(u64, bool)> {
        lines
            .iter()
            .map(|line| (line.number, line.event.is_ok()))
            .collect()
    }

    #[test]
    fn blank_lines_are_counted_and_skipped_and_the_last_line_break_may_be_missing() {
        let input = format!("\n{EVENT}\r\n \t\r\n{EVENT}");
        let lines = read(input.as_bytes(), Ids::Required);
        assert_eq!(numbers(&lines), [(2, true), (4, true)]);
        assert_eq!(lines[1].end, input.len() as u64);
        assert_eq!(read(b"", Ids::Required), []);
        assert_eq!(read(b"\n\n", Ids::Required), []);
    }

    #[test]
    fn a_bad_line_has_a_reason_and_does_not_stop_the_others() {
        let lines = read(format!("{{]\n{EVENT}\n").as_bytes(), Ids::Required);
        assert_eq!(numbers(&lines), [(1, false), (2, true)]);
        assert_eq!(
            lines[0].event,
            Err("is not valid JSON: key must be a string at column 2".to_owned())
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_and_not_kept() {
        let sized = |bytes: usize| {
            let padding = "x".repeat(bytes - EVENT.len() - r#""a":"""#.len());
            EVENT.replace("{}", &format!(r#"{{"a":"{padding}"}}"#))
        };
        let (largest, too_large) = (sized(MAX_EVENT_BYTES), sized(MAX_EVENT_BYTES + 1));
        let blanks = " ".repeat(3 * MAX_EVENT_BYTES);
        let input = format!("{largest}\r\n{too_large}\n{blanks}{EVENT}\n{EVENT}\n");
        let mut lines = Lines::new(input.as_bytes(), rules(Ids::Required));
        let read: Vec<_> = std::iter::from_fn(|| lines.next().unwrap()).collect();
        assert_eq!(
            numbers(&read),
            [(1, true), (2, false), (3, false), (4, true)]
        );
        let why = Err("must have at most 262144 bytes".to_owned());
        assert_eq!(read[2].event, why);
        assert!(lines.kept.capacity() <= 2 * KEPT);
    }

    #[test]
    fn a_missing_id_is_given_or_refused() {
        let without = EVENT.replace(r#""event_id":"e","#, "");
        let input = format!("{without}\n{without}\n");
        let refused = read(input.as_bytes(), Ids::Required);
        assert_eq!(refused[0].event, Err("event_id: is missing".to_owned()));
        let given = read(input.as_bytes(), Ids::Given);
        let id = |index: usize| given[index].event.as_ref().unwrap().id.as_str();
        assert!(id(0).starts_with("evt_"));
        assert_ne!(id(0), id(1));
    }

    #[test]
    fn a_byte_order_mark_is_skipped_at_the_start_of_a_file_and_refused_elsewhere() {
        let input = format!("\u{feff}{EVENT}\r\n\u{feff}{EVENT}\n{EVENT}");
        let lines = read(input.as_bytes(), Ids::Required);
        assert_eq!(numbers(&lines), [(1, true), (2, false), (3, true)]);
        let why = lines[1].event.as_ref().unwrap_err();
        assert!(why.contains("byte order mark (U+FEFF)"), "{why}");
        assert_eq!(read("\u{feff}\n".as_bytes(), Ids::Required), []);
    }

    #[test]
    fn only_the_organization_of_an_event_is_replaced() {
        let tricky = EVENT.replace(
            r#""workflow_id":"w""#,
            r#""workflow_id":"a\",\"organization_id\":\"b""#,
        );
        let tricky = tricky.replace(
            r#""data":{}"#,
            r#""data":{"organization_id":"o" ,"timestamp":1.0}"#,
        );
        let mut lines = Lines::new(
            tricky.as_bytes(),
            Rules {
                ids: Ids::Required,
                organization: Some(OrganizationId::parse("the \"new\" one").unwrap()),
            },
        );
        let moved = lines.next().unwrap().unwrap().event.unwrap();
        assert_eq!(moved.organization.as_str(), "the \"new\" one");
        let expected = tricky.replacen(
            r#""organization_id":"o""#,
            r#""organization_id":"the \"new\" one""#,
            1,
        );
        assert_eq!(moved.body, expected.as_bytes());
    }
}
