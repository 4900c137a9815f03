//! Deferred events of one organization in one message.
//!
//! An organization far above its rate has thousands of deferred events. A message for each would cost the broker as
//! much as their publishing did, and slow down all others. A deferred batch therefore combines small events of one
//! organization that are due in the same second. They are stored together. A message that came back before is deferred
//! alone. A batch that would be rejected is split, so that an invalid event rejects no others.

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use hookline_core::ids::OrganizationId;
use hookline_core::wire::{JSON, JSON_BATCH, JSON_BUNDLE};
use hookline_queue::{Author, Deferred, PublishedEvents};
use serde_json::value::RawValue;

use crate::decode::{self, BatchEntry, Decoded};

/// Bytes. Larger events are deferred alone.
const MAX_EVENT_BYTES: usize = 16 * 1024;

const MAX_EVENTS: usize = 256;

/// The messages that replace these.
pub(crate) fn batched(messages: &[Decoded]) -> Vec<Deferred> {
    let mut deferred = Vec::new();
    let mut batches: HashMap<_, Vec<&Decoded>> = HashMap::new();
    for decoded in messages {
        match batch_of(decoded) {
            Some(batch) => batches.entry(batch).or_default().push(decoded),
            None => deferred.push(alone(decoded)),
        }
    }
    let batches = batches.values().flat_map(|all| all.chunks(MAX_EVENTS));
    deferred.extend(batches.map(|some| match some {
        [one] => alone(one),
        some => together(some),
    }));
    deferred
}

/// The batch of a message: its organization, and the second in which it is due. None if it is deferred alone.
fn batch_of(decoded: &Decoded) -> Option<(&OrganizationId, i64)> {
    let Decoded {
        message, events, ..
    } = decoded;
    let [one] = &events[..] else {
        return None;
    };
    let is_small = one.event.body.len() <= MAX_EVENT_BYTES;
    let due = message.message.due?.unix_seconds();
    (is_small && message.count_to_carry() == 0).then_some((&one.event.organization, due))
}

fn alone(decoded: &Decoded) -> Deferred {
    Deferred {
        message: decoded.message.message.clone(),
        delivery_count: decoded.message.count_to_carry(),
    }
}

fn together(some: &[&Decoded]) -> Deferred {
    let mut body = Vec::new();
    for decoded in some {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.push(b'{');
        if let Some(trace) = decoded.message.message.trace {
            // Writing to a vector does not fail.
            let _ = write!(body, r#""trace":"{trace}","#);
        }
        body.extend_from_slice(br#""event":"#);
        for incoming in &decoded.events {
            body.extend_from_slice(&incoming.event.body);
        }
        body.push(b'}');
    }
    body.push(b']');
    let due = some.iter().filter_map(|one| one.message.message.due);
    Deferred {
        message: PublishedEvents {
            body: body.into(),
            content_type: Some(JSON_BUNDLE.to_owned()),
            author: Author::Hookline,
            trace: None,
            due: due.max(),
        },
        delivery_count: 0,
    }
}

/// The messages of a deferred batch; none for another message. Their events are not parsed, because one may be invalid.
pub(crate) fn split(message: &PublishedEvents, delivery_count: u32) -> Option<Vec<Deferred>> {
    let single = |entry: BatchEntry<'_>| Deferred {
        message: PublishedEvents {
            body: Bytes::copy_from_slice(entry.event.get().as_bytes()),
            content_type: Some(JSON.to_owned()),
            author: message.author,
            trace: entry.trace(),
            due: message.due,
        },
        delivery_count,
    };
    let entries = decode::entries(message)?;
    Some(entries.into_iter().map(single).collect())
}

/// [`split`] also for an array of one request. Its events may be stored one by one.
pub(crate) fn split_array(message: &PublishedEvents, delivery_count: u32) -> Option<Vec<Deferred>> {
    if message.content_type.as_deref() != Some(JSON_BATCH) {
        return split(message, delivery_count);
    }
    let entries: Vec<&RawValue> = serde_json::from_slice(&message.body).ok()?;
    let single = |event: &RawValue| Deferred {
        message: PublishedEvents {
            body: Bytes::copy_from_slice(event.get().as_bytes()),
            content_type: Some(JSON.to_owned()),
            ..message.clone()
        },
        delivery_count,
    };
    (entries.len() > 1).then(|| entries.into_iter().map(single).collect())
}

#[cfg(test)]
mod tests {
    use hookline_core::timestamp::Timestamp;
    use hookline_core::trace::TraceParent;
    use hookline_queue::{Receipt, ReceivedMessage};
    use tracing::Span;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn message(number: usize, organization: &str, due: i64) -> Decoded {
        let body = format!(
            r#"{{"event_id":"e{number}","event_type":"workflow.failed","workflow_id":"w","organization_id":"{organization}","timestamp":"2025-12-21T10:30:00Z","data":{{"é":[{number}]}}}}"#
        );
        let message = PublishedEvents {
            body: body.into(),
            content_type: Some(JSON.to_owned()),
            author: Author::Publisher,
            trace: TraceParent::parse(TRACE).map(|trace| trace.child(number as u64)),
            due: Some(Timestamp::from_unix_micros(due)),
        };
        Decoded {
            events: decode::events(&message, message.trace).unwrap(),
            message: ReceivedMessage {
                message,
                redelivered: false,
                delivery_count: 0,
                receipt: Receipt { session: 0, tag: 0 },
            },
            _span: Span::none(),
        }
    }

    fn ids(deferred: &[Deferred]) -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = deferred
            .iter()
            .map(|one| {
                let events = decode::events(&one.message, None).unwrap();
                events.iter().map(|one| one.event.id.to_string()).collect()
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn events_of_an_organization_that_are_due_in_the_same_second_are_deferred_together() {
        let mut all = vec![
            message(0, "a", 1_000_000),
            message(1, "a", 1_999_999),
            message(2, "a", 2_000_000),
            message(3, "b", 1_000_000),
            message(4, "a", 1_000_000),
            message(5, "a", 1_500_000),
        ];
        all[4].message.redelivered = true;
        let deferred = batched(&all);
        assert_eq!(
            ids(&deferred),
            [vec!["e0", "e1", "e5"], vec!["e2"], vec!["e3"], vec!["e4"]]
        );
        let delivery_count: u32 = deferred.iter().map(|one| one.delivery_count).sum();
        assert_eq!(delivery_count, 1);
        let batch = deferred.iter().find(|one| one.message.trace.is_none());
        let due = batch.unwrap().message.due;
        assert_eq!(due.map(Timestamp::unix_micros), Some(1_999_999));
    }

    #[test]
    fn a_deferred_batch_has_at_most_256_events() {
        let all: Vec<Decoded> = (0..600).map(|number| message(number, "a", 0)).collect();
        let sizes = ids(&batched(&all)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes.iter().sum::<usize>(), 600);
        assert_eq!(sizes.iter().max(), Some(&MAX_EVENTS));
    }

    #[test]
    fn a_deferred_batch_decodes_to_the_published_events_whole_or_split() {
        let all = [message(1, "a", 7), message(2, "a", 7)];
        let [batch] = &batched(&all)[..] else {
            panic!("they are deferred alone");
        };
        let read = decode::events(&batch.message, None).unwrap();
        let split_messages = split(&batch.message, 3).unwrap();
        assert_eq!((read.len(), split_messages.len()), (2, 2));
        for ((was, read), one) in all.iter().zip(read).zip(split_messages) {
            assert_eq!(read.event, was.events[0].event);
            assert_eq!(read.trace, was.message.message.trace);
            assert_eq!(one.message.body, was.message.message.body);
            assert_eq!(one.message.trace, was.message.message.trace);
            assert_eq!(one.message.due, was.message.message.due);
            assert_eq!(one.delivery_count, 3);
        }
    }

    #[test]
    fn only_deferred_batches_of_hookline_are_split() {
        assert!(split(&message(1, "a", 7).message.message, 0).is_none());
        let broken = PublishedEvents {
            content_type: Some(JSON_BUNDLE.to_owned()),
            author: Author::Hookline,
            ..message(1, "a", 7).message.message
        };
        assert!(split(&broken, 0).is_none());
        let forged = PublishedEvents {
            body: r#"[{"event":0},{"event":0}]"#.into(),
            author: Author::Publisher,
            ..broken
        };
        assert!(split(&forged, 0).is_none());
    }
}
