//! Messages in hand, until all of their events are stored.
//!
//! A message is settled once, by what has become of its events: a transaction may take in some of them and
//! not yet the others. Where the process ends in between, the message comes again and finds the first ones
//! known.

use std::collections::HashMap;

use hookline_core::ids::{EventId, OrganizationId};
use hookline_queue::{PublishedEvents, Received};
use tracing::Span;

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is stored with its deliveries.
    Stored,
    /// The process stops. Whether it is stored is not known.
    Unfinished,
}

/// An event that the store does not take, and why.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) event: EventId,
    pub(crate) organization: OrganizationId,
    pub(crate) reason: String,
}

/// Messages that leave, and how.
pub(crate) type Settled = Vec<(Received<PublishedEvents>, Way)>;

/// How a message leaves.
#[derive(Debug, Clone)]
pub(crate) enum Way {
    /// All of it is done.
    Ack,
    /// It goes back as it came: what has begun of it is done, too.
    PutBack,
    /// It goes back, and what has begun of it may not be done.
    Release,
    /// It is put aside.
    PutAside(Fault),
    /// It is put off, and comes again.
    PutOff,
}

#[derive(Debug)]
struct Held {
    message: Received<PublishedEvents>,
    /// Lasts as long as the message is in hand.
    _span: Span,
    /// Events that are not stored.
    left: usize,
    /// Of these, those that are under way.
    under_way: usize,
    /// An event of it was in a transaction that failed: it may be stored all the same.
    was_tried: bool,
    way: Way,
}

/// All messages in hand.
#[derive(Debug, Default)]
pub(crate) struct Hand {
    next: u64,
    messages: HashMap<u64, Held>,
}

impl Hand {
    /// Takes a message with so many events; answers with its number.
    pub(crate) fn take(
        &mut self,
        message: Received<PublishedEvents>,
        span: Span,
        events: usize,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let held = Held {
            message,
            _span: span,
            left: events,
            under_way: 0,
            was_tried: false,
            way: Way::Ack,
        };
        self.messages.insert(number, held);
        number
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Events of these messages, one each time that it is named, are under way.
    pub(crate) fn begin(&mut self, messages: impl Iterator<Item = u64>) {
        for number in messages {
            if let Some(held) = self.messages.get_mut(&number) {
                held.under_way += 1;
            }
        }
    }

    /// Notes what became of an event of a message. Answers with the message once nothing of it is under
    /// way or waits. None of it waits from now on where the event was not stored.
    pub(crate) fn over(
        &mut self,
        number: u64,
        fate: Fate,
    ) -> Option<(Received<PublishedEvents>, Way)> {
        let held = self.messages.get_mut(&number)?;
        held.under_way -= 1;
        match fate {
            Fate::Stored => held.left -= 1,
            Fate::Unfinished => held.way = Way::Release,
        }
        self.settled(number)
    }

    /// Notes that an event of a message was not taken in. It waits again, unless the answer is no: then its
    /// message leaves.
    pub(crate) fn waits_again(&mut self, number: u64) -> bool {
        let Some(held) = self.messages.get_mut(&number) else {
            return false;
        };
        held.under_way -= 1;
        held.was_tried = true;
        matches!(held.way, Way::Ack)
    }

    /// Nothing more of a message is begun, for it leaves in this way. Answers with it once nothing of it is
    /// under way.
    pub(crate) fn leave(
        &mut self,
        number: u64,
        way: Way,
    ) -> Option<(Received<PublishedEvents>, Way)> {
        let held = self.messages.get_mut(&number)?;
        if matches!(held.way, Way::Ack) {
            held.way = way;
        }
        self.settled(number)
    }

    /// Nothing more of any message is begun; answers with those that can go at once.
    pub(crate) fn stop(&mut self) -> Vec<(Received<PublishedEvents>, Way)> {
        for held in self.messages.values_mut() {
            if held.left > held.under_way && matches!(held.way, Way::Ack) {
                held.way = match held.was_tried {
                    true => Way::Release,
                    false => Way::PutBack,
                };
            }
        }
        let numbers: Vec<u64> = self.messages.keys().copied().collect();
        let settled = numbers.into_iter().filter_map(|one| self.settled(one));
        settled.collect()
    }

    /// A message that leaves, once nothing of it is under way.
    pub(crate) fn settled(&mut self, number: u64) -> Option<(Received<PublishedEvents>, Way)> {
        let held = self.messages.get(&number)?;
        let waits = matches!(held.way, Way::Ack) && held.left > 0;
        if waits || held.under_way > 0 {
            return None;
        }
        let held = self.messages.remove(&number)?;
        Some((held.message, held.way))
    }
}

#[cfg(test)]
mod tests {
    use hookline_queue::{Author, Receipt};

    use super::*;

    fn take(hand: &mut Hand, events: usize) -> u64 {
        let message = Received {
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
        hand.take(message, Span::none(), events)
    }

    fn at_fault() -> Way {
        Way::PutAside(Fault {
            event: EventId::parse("e").unwrap(),
            organization: OrganizationId::parse("o").unwrap(),
            reason: "refused".to_owned(),
        })
    }

    #[test]
    fn a_message_is_acked_when_the_last_of_its_events_is_stored() {
        let mut hand = Hand::default();
        let message = take(&mut hand, 3);
        hand.begin([message, message].into_iter());
        assert!(hand.over(message, Fate::Stored).is_none());
        assert!(hand.over(message, Fate::Stored).is_none());
        hand.begin([message].into_iter());
        let (_, way) = hand.over(message, Fate::Stored).unwrap();
        assert!(matches!(way, Way::Ack), "{way:?}");
        assert_eq!(hand.len(), 0);
    }

    #[test]
    fn at_a_stop_what_has_begun_of_a_message_is_finished_and_the_rest_goes_back() {
        let mut hand = Hand::default();
        let (begun, whole, untouched) =
            (take(&mut hand, 2), take(&mut hand, 1), take(&mut hand, 1));
        hand.begin([begun, whole].into_iter());
        let gone = hand.stop();
        assert!(matches!(gone[..], [(_, Way::PutBack)]), "{untouched}");
        let (_, way) = hand.over(begun, Fate::Stored).unwrap();
        assert!(matches!(way, Way::PutBack), "{way:?}");
        let (_, way) = hand.over(whole, Fate::Stored).unwrap();
        assert!(matches!(way, Way::Ack), "{way:?}");
    }

    #[test]
    fn a_message_with_unfinished_events_is_released_and_comes_again() {
        let mut hand = Hand::default();
        let message = take(&mut hand, 3);
        hand.begin([message, message].into_iter());
        assert!(hand.over(message, Fate::Unfinished).is_none());
        let (_, way) = hand.over(message, Fate::Stored).unwrap();
        assert!(matches!(way, Way::Release), "{way:?}");
    }

    #[test]
    fn a_message_with_an_event_at_fault_is_put_aside_when_nothing_of_it_is_under_way() {
        let mut hand = Hand::default();
        let message = take(&mut hand, 3);
        hand.begin([message, message].into_iter());
        assert!(hand.waits_again(message));
        assert!(hand.leave(message, at_fault()).is_none());
        let (_, way) = hand.over(message, Fate::Stored).unwrap();
        assert!(matches!(way, Way::PutAside(_)), "{way:?}");
    }

    #[test]
    fn an_event_that_was_not_taken_waits_again_unless_its_message_leaves() {
        let mut hand = Hand::default();
        let message = take(&mut hand, 2);
        hand.begin([message].into_iter());
        assert!(hand.waits_again(message));
        hand.begin([message, message].into_iter());
        assert!(hand.leave(message, Way::PutOff).is_none());
        assert!(!hand.waits_again(message));
        assert!(hand.settled(message).is_none());
        assert!(!hand.waits_again(message));
        let (_, way) = hand.settled(message).unwrap();
        assert!(matches!(way, Way::PutOff), "{way:?}");
    }

    #[test]
    fn at_a_stop_what_was_tried_goes_back_as_something_that_may_be_stored() {
        let mut hand = Hand::default();
        let message = take(&mut hand, 1);
        hand.begin([message].into_iter());
        assert!(hand.waits_again(message));
        assert!(matches!(hand.stop()[..], [(_, Way::Release)]));
    }
}
