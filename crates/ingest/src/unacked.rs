//! Messages that were received and are not settled, until all of their events are stored.
//!
//! A transaction may store only some events of a message. The message is settled once, by the outcomes of all of them.
//! If the process ends in between, the message comes again, and the stored events create no second delivery.

use std::collections::HashMap;

use hookline_core::ids::{EventId, OrganizationId};
use hookline_queue::{PublishedEvents, ReceivedMessage};
use tracing::Span;

#[derive(Debug)]
pub(crate) enum EventOutcome {
    /// The event is stored with its deliveries.
    Stored,
    /// The process stops. The event may be stored.
    Unfinished,
}

/// An event that the store cannot write, and why.
#[derive(Debug, Clone)]
pub(crate) struct FaultyEvent {
    pub(crate) event: EventId,
    pub(crate) organization: OrganizationId,
    pub(crate) reason: String,
}

/// Messages that can be settled, and how.
pub(crate) type Settlements = Vec<Settlement>;

pub(crate) type Settlement = (ReceivedMessage<PublishedEvents>, EventDisposition);

/// How a message is settled. The verbs are those of `hookline_queue::EventConsumer`.
#[derive(Debug, Clone)]
pub(crate) enum EventDisposition {
    /// All events are stored.
    Ack,
    /// No event of it is partly done.
    RequeueUncounted,
    /// An event of it may be partly done.
    Requeue,
    DeadLetter(FaultyEvent),
    Defer,
}

#[derive(Debug)]
struct UnackedMessage {
    message: ReceivedMessage<PublishedEvents>,
    /// Lasts until the message is settled.
    _span: Span,
    /// Events that are not stored.
    remaining: usize,
    /// The remaining events that are in a transaction.
    in_flight: usize,
    /// An event of it was in a transaction that failed, and may be stored all the same.
    was_tried: bool,
    disposition: EventDisposition,
}

#[derive(Debug, Default)]
pub(crate) struct UnackedMessages {
    next: u64,
    messages: HashMap<u64, UnackedMessage>,
}

impl UnackedMessages {
    /// Returns the number of the message.
    pub(crate) fn insert(
        &mut self,
        message: ReceivedMessage<PublishedEvents>,
        span: Span,
        events: usize,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let held = UnackedMessage {
            message,
            _span: span,
            remaining: events,
            in_flight: 0,
            was_tried: false,
            disposition: EventDisposition::Ack,
        };
        self.messages.insert(number, held);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Begins an event of each of these messages, which may be repeated.
    pub(crate) fn begin(&mut self, messages: impl Iterator<Item = u64>) {
        for number in messages {
            if let Some(held) = self.messages.get_mut(&number) {
                held.in_flight += 1;
            }
        }
    }

    /// Records the outcome of an event, and returns its message if that can be settled. After
    /// [`EventOutcome::Unfinished`], no further event of the message is begun.
    pub(crate) fn finish_event(
        &mut self,
        number: u64,
        outcome: EventOutcome,
    ) -> Option<Settlement> {
        let held = self.messages.get_mut(&number)?;
        held.in_flight -= 1;
        match outcome {
            EventOutcome::Stored => held.remaining -= 1,
            EventOutcome::Unfinished => held.disposition = EventDisposition::Requeue,
        }
        self.settle(number)
    }

    /// Records that the transaction of an event failed. Returns whether the event is tried again. It is not if its
    /// message is to be settled.
    pub(crate) fn retries_event(&mut self, number: u64) -> bool {
        let Some(held) = self.messages.get_mut(&number) else {
            return false;
        };
        held.in_flight -= 1;
        held.was_tried = true;
        matches!(held.disposition, EventDisposition::Ack)
    }

    /// Begins no further event of a message, and returns the message if it can be settled.
    pub(crate) fn dispose(
        &mut self,
        number: u64,
        disposition: EventDisposition,
    ) -> Option<Settlement> {
        let held = self.messages.get_mut(&number)?;
        if matches!(held.disposition, EventDisposition::Ack) {
            held.disposition = disposition;
        }
        self.settle(number)
    }

    /// Begins no further event of any message, and returns the messages that can be settled now.
    pub(crate) fn stop(&mut self) -> Settlements {
        for held in self.messages.values_mut() {
            if held.remaining > held.in_flight && matches!(held.disposition, EventDisposition::Ack)
            {
                held.disposition = match held.was_tried {
                    true => EventDisposition::Requeue,
                    false => EventDisposition::RequeueUncounted,
                };
            }
        }
        let numbers: Vec<u64> = self.messages.keys().copied().collect();
        let settlements = numbers.into_iter().filter_map(|one| self.settle(one));
        settlements.collect()
    }

    /// Returns the message if no event of it waits or is in a transaction.
    pub(crate) fn settle(&mut self, number: u64) -> Option<Settlement> {
        let held = self.messages.get(&number)?;
        let waits = matches!(held.disposition, EventDisposition::Ack) && held.remaining > 0;
        if waits || held.in_flight > 0 {
            return None;
        }
        let held = self.messages.remove(&number)?;
        Some((held.message, held.disposition))
    }
}

#[cfg(test)]
mod tests {
    use hookline_queue::{Author, Receipt};

    use super::*;

    fn insert(unacked: &mut UnackedMessages, events: usize) -> u64 {
        let message = ReceivedMessage {
            message: PublishedEvents {
                author: Author::Hookline,
                body: "[]".into(),
                content_type: None,
                trace: None,
                due: None,
            },
            redelivered: false,
            delivery_count: 0,
            receipt: Receipt { session: 0, tag: 0 },
        };
        unacked.insert(message, Span::none(), events)
    }

    fn dead_letter() -> EventDisposition {
        EventDisposition::DeadLetter(FaultyEvent {
            event: EventId::parse("e").unwrap(),
            organization: OrganizationId::parse("o").unwrap(),
            reason: "refused".to_owned(),
        })
    }

    #[test]
    fn a_message_is_acked_when_the_last_of_its_events_is_stored() {
        let mut unacked = UnackedMessages::default();
        let message = insert(&mut unacked, 3);
        unacked.begin([message, message].into_iter());
        assert!(
            unacked
                .finish_event(message, EventOutcome::Stored)
                .is_none()
        );
        assert!(
            unacked
                .finish_event(message, EventOutcome::Stored)
                .is_none()
        );
        unacked.begin([message].into_iter());
        let (_, disposition) = unacked.finish_event(message, EventOutcome::Stored).unwrap();
        assert!(
            matches!(disposition, EventDisposition::Ack),
            "{disposition:?}"
        );
        assert_eq!(unacked.len(), 0);
    }

    #[test]
    fn at_a_stop_begun_events_are_finished_and_messages_with_others_are_requeued() {
        let mut unacked = UnackedMessages::default();
        let (begun, whole, untouched) = (
            insert(&mut unacked, 2),
            insert(&mut unacked, 1),
            insert(&mut unacked, 1),
        );
        unacked.begin([begun, whole].into_iter());
        let settled = unacked.stop();
        assert!(
            matches!(settled[..], [(_, EventDisposition::RequeueUncounted)]),
            "{untouched}"
        );
        let (_, disposition) = unacked.finish_event(begun, EventOutcome::Stored).unwrap();
        assert!(
            matches!(disposition, EventDisposition::RequeueUncounted),
            "{disposition:?}"
        );
        let (_, disposition) = unacked.finish_event(whole, EventOutcome::Stored).unwrap();
        assert!(
            matches!(disposition, EventDisposition::Ack),
            "{disposition:?}"
        );
    }

    #[test]
    fn a_message_with_an_unfinished_event_is_requeued() {
        let mut unacked = UnackedMessages::default();
        let message = insert(&mut unacked, 3);
        unacked.begin([message, message].into_iter());
        assert!(
            unacked
                .finish_event(message, EventOutcome::Unfinished)
                .is_none()
        );
        let (_, disposition) = unacked.finish_event(message, EventOutcome::Stored).unwrap();
        assert!(
            matches!(disposition, EventDisposition::Requeue),
            "{disposition:?}"
        );
    }

    #[test]
    fn a_message_with_a_faulty_event_is_dead_lettered_when_no_event_is_in_a_transaction() {
        let mut unacked = UnackedMessages::default();
        let message = insert(&mut unacked, 3);
        unacked.begin([message, message].into_iter());
        assert!(unacked.retries_event(message));
        assert!(unacked.dispose(message, dead_letter()).is_none());
        let (_, disposition) = unacked.finish_event(message, EventOutcome::Stored).unwrap();
        assert!(
            matches!(disposition, EventDisposition::DeadLetter(_)),
            "{disposition:?}"
        );
    }

    #[test]
    fn an_event_of_a_failed_transaction_is_retried_unless_its_message_is_settled() {
        let mut unacked = UnackedMessages::default();
        let message = insert(&mut unacked, 2);
        unacked.begin([message].into_iter());
        assert!(unacked.retries_event(message));
        unacked.begin([message, message].into_iter());
        assert!(unacked.dispose(message, EventDisposition::Defer).is_none());
        assert!(!unacked.retries_event(message));
        assert!(unacked.settle(message).is_none());
        assert!(!unacked.retries_event(message));
        let (_, disposition) = unacked.settle(message).unwrap();
        assert!(
            matches!(disposition, EventDisposition::Defer),
            "{disposition:?}"
        );
    }

    #[test]
    fn at_a_stop_a_message_of_a_failed_transaction_is_requeued_and_counted() {
        let mut unacked = UnackedMessages::default();
        let message = insert(&mut unacked, 1);
        unacked.begin([message].into_iter());
        assert!(unacked.retries_event(message));
        assert!(matches!(
            unacked.stop()[..],
            [(_, EventDisposition::Requeue)]
        ));
    }
}
