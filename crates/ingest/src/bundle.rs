//! Events that wait together for their turn.
//!
//! Who publishes far too much has thousands of events that are early. A message for each would cost
//! the broker as much again as their publishing did, at the expense of everybody. So those of one
//! organization whose turn is in the same second wait as one message and are taken in as one. What
//! came back before waits alone; and a bundle that would be rejected is taken apart, for whatever is
//! wrong with one event is not wrong with the others.

use std::collections::HashMap;
use std::io::Write as _;

use bytes::Bytes;
use hookline_core::ids::OrganizationId;
use hookline_core::trace::TraceParent;
use hookline_core::wire::{JSON, JSON_BATCH, JSON_BUNDLE};
use hookline_queue::{Author, Deferred, PublishedEvents};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{InHand, reading};

/// Larger events wait alone, in bytes.
const SMALL: usize = 16 * 1024;

/// How many events wait together at most.
const TOGETHER: usize = 256;

/// An event of a bundle.
#[derive(Debug, Deserialize)]
pub(crate) struct Entry<'a> {
    /// The publisher's trace, as `traceparent`.
    trace: Option<String>,
    #[serde(borrow)]
    pub(crate) event: &'a RawValue,
}

impl Entry<'_> {
    pub(crate) fn trace(&self) -> Option<TraceParent> {
        self.trace.as_deref().and_then(TraceParent::parse)
    }
}

/// What comes in place of messages that are early.
pub(crate) fn bundled(early: &[InHand]) -> Vec<Deferred> {
    let mut coming = Vec::new();
    let mut bundles: HashMap<_, Vec<&InHand>> = HashMap::new();
    for in_hand in early {
        match bundle_of(in_hand) {
            Some(bundle) => bundles.entry(bundle).or_default().push(in_hand),
            None => coming.push(alone(in_hand)),
        }
    }
    let bundles = bundles.values().flat_map(|all| all.chunks(TOGETHER));
    coming.extend(bundles.map(|some| match some {
        [one] => alone(one),
        some => together(some),
    }));
    coming
}

/// With whom it may wait: those of its organization whose turn is in the same second.
fn bundle_of(in_hand: &InHand) -> Option<(&OrganizationId, i64)> {
    let InHand {
        message, events, ..
    } = in_hand;
    let [one] = &events[..] else {
        return None;
    };
    let small = one.event.body.len() <= SMALL;
    let due = message.message.due?.unix_seconds();
    (small && message.count_to_carry() == 0).then_some((&one.event.organization, due))
}

fn alone(in_hand: &InHand) -> Deferred {
    Deferred {
        message: in_hand.message.message.clone(),
        delivery_count: in_hand.message.count_to_carry(),
    }
}

fn together(some: &[&InHand]) -> Deferred {
    let mut body = Vec::new();
    for in_hand in some {
        body.push(if body.is_empty() { b'[' } else { b',' });
        body.push(b'{');
        if let Some(trace) = in_hand.message.message.trace {
            // A vector takes whatever is written to it.
            let _ = write!(body, r#""trace":"{trace}","#);
        }
        body.extend_from_slice(br#""event":"#);
        for incoming in &in_hand.events {
            body.extend_from_slice(&incoming.event.body);
        }
        body.push(b'}');
    }
    body.push(b']');
    let turns = some.iter().filter_map(|one| one.message.message.due);
    Deferred {
        message: PublishedEvents {
            body: body.into(),
            content_type: Some(JSON_BUNDLE.to_owned()),
            author: Author::Hookline,
            trace: None,
            due: turns.max(),
        },
        delivery_count: 0,
    }
}

/// The messages that a bundle stands for; none where it is no bundle of ours. Their events are not
/// read: that may be what went wrong.
pub(crate) fn apart(message: &PublishedEvents, delivery_count: u32) -> Option<Vec<Deferred>> {
    let single = |entry: Entry<'_>| Deferred {
        message: PublishedEvents {
            body: Bytes::copy_from_slice(entry.event.get().as_bytes()),
            content_type: Some(JSON.to_owned()),
            author: message.author,
            trace: entry.trace(),
            due: message.due,
        },
        delivery_count,
    };
    let entries = reading::entries(message)?;
    Some(entries.into_iter().map(single).collect())
}

/// The same also for a batch, which is one message only until its events are durable.
pub(crate) fn singles(message: &PublishedEvents, delivery_count: u32) -> Option<Vec<Deferred>> {
    if message.content_type.as_deref() != Some(JSON_BATCH) {
        return apart(message, delivery_count);
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
    use hookline_queue::{Receipt, Received};
    use tracing::Span;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn early(number: usize, organization: &str, due: i64) -> InHand {
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
        InHand {
            events: reading::events(&message, message.trace).unwrap(),
            message: Received {
                message,
                redelivered: false,
                delivery_count: 0,
                receipt: Receipt { session: 0, tag: 0 },
            },
            _span: Span::none(),
        }
    }

    fn ids(coming: &[Deferred]) -> Vec<Vec<String>> {
        let mut all: Vec<Vec<String>> = coming
            .iter()
            .map(|one| {
                let events = reading::events(&one.message, None).unwrap();
                events.iter().map(|one| one.event.id.to_string()).collect()
            })
            .collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn those_of_an_organization_whose_turn_is_in_the_same_second_wait_together() {
        let mut all = vec![
            early(0, "a", 1_000_000),
            early(1, "a", 1_999_999),
            early(2, "a", 2_000_000),
            early(3, "b", 1_000_000),
            early(4, "a", 1_000_000),
            early(5, "a", 1_500_000),
        ];
        all[4].message.redelivered = true;
        let coming = bundled(&all);
        assert_eq!(
            ids(&coming),
            [vec!["e0", "e1", "e5"], vec!["e2"], vec!["e3"], vec!["e4"]]
        );
        let delivery_count: u32 = coming.iter().map(|one| one.delivery_count).sum();
        assert_eq!(delivery_count, 1);
        let bundle = coming.iter().find(|one| one.message.trace.is_none());
        let due = bundle.unwrap().message.due;
        assert_eq!(due.map(Timestamp::unix_micros), Some(1_999_999));
    }

    #[test]
    fn no_bundle_grows_without_end() {
        let all: Vec<InHand> = (0..600).map(|number| early(number, "a", 0)).collect();
        let sizes = ids(&bundled(&all)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes.iter().sum::<usize>(), 600);
        assert_eq!(sizes.iter().max(), Some(&TOGETHER));
    }

    #[test]
    fn what_waited_together_is_what_was_published_together_or_apart() {
        let all = [early(1, "a", 7), early(2, "a", 7)];
        let [bundle] = &bundled(&all)[..] else {
            panic!("they wait alone");
        };
        let read = reading::events(&bundle.message, None).unwrap();
        let apart = apart(&bundle.message, 3).unwrap();
        assert_eq!((read.len(), apart.len()), (2, 2));
        for ((was, read), apart) in all.iter().zip(read).zip(apart) {
            assert_eq!(read.event, was.events[0].event);
            assert_eq!(read.trace, was.message.message.trace);
            assert_eq!(apart.message.body, was.message.message.body);
            assert_eq!(apart.message.trace, was.message.message.trace);
            assert_eq!(apart.message.due, was.message.message.due);
            assert_eq!(apart.delivery_count, 3);
        }
    }

    #[test]
    fn nothing_else_is_taken_apart() {
        assert!(apart(&early(1, "a", 7).message.message, 0).is_none());
        let broken = PublishedEvents {
            content_type: Some(JSON_BUNDLE.to_owned()),
            author: Author::Hookline,
            ..early(1, "a", 7).message.message
        };
        assert!(apart(&broken, 0).is_none());
        let forged = PublishedEvents {
            body: r#"[{"event":0},{"event":0}]"#.into(),
            author: Author::Publisher,
            ..broken
        };
        assert!(apart(&forged, 0).is_none());
    }
}
