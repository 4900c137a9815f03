use hookline_core::event::{Event, MissingId};
use proptest::prelude::*;

use super::*;
use hookline_store::IncomingEvent;

fn waiting(message: u64, owner: &str, deliveries: usize) -> WaitingEvent {
    let json = format!(
        r#"{{"event_id":"e{message}","event_type":"workflow.failed","workflow_id":"w","organization_id":"{owner}","timestamp":"2025-12-21T10:30:00Z","data":{{}}}}"#
    );
    let event = IncomingEvent {
        event: Event::from_json(json.as_bytes(), MissingId::Refused).unwrap(),
        trace: None,
    };
    WaitingEvent::new(message, event, deliveries)
}

fn messages(slice: &Slice) -> Vec<u64> {
    slice.events.iter().map(|one| one.message).collect()
}

fn owner(name: &str) -> OrganizationId {
    OrganizationId::parse(name).unwrap()
}

#[test]
fn another_organization_gets_a_slice_between_those_of_a_large_fan_out() {
    let mut backlog = EventBacklog::new(1_024);
    for _ in 0..60 {
        backlog.push(waiting(1, "large", 1_000), Instant::now());
    }
    let first = backlog.next(256, Instant::now()).unwrap();
    assert_eq!((first.events.len(), first.size), (1, FanOutSize::Broad));
    backlog.push(waiting(2, "other", 1), Instant::now());
    let second = backlog.next(256, Instant::now()).unwrap();
    assert_eq!(
        (messages(&second), second.size),
        (vec![2], FanOutSize::Small)
    );
    // One slice is in flight, and the others wait for it.
    assert!(!backlog.has_turn(Instant::now()));
    assert!(backlog.next(256, Instant::now()).is_none());
    backlog.slice_ended(&first.organizations);
    assert_eq!(messages(&backlog.next(256, Instant::now()).unwrap()), [1]);
}

#[test]
fn an_organization_that_is_alone_has_two_slices_in_flight() {
    let mut backlog = EventBacklog::new(1_024);
    for _ in 0..3 {
        backlog.push(waiting(1, "large", 1_000), Instant::now());
    }
    let first = backlog.next(256, Instant::now()).unwrap();
    assert_eq!(messages(&backlog.next(256, Instant::now()).unwrap()), [1]);
    assert!(!backlog.has_turn(Instant::now()));
    backlog.slice_ended(&first.organizations);
    assert_eq!(messages(&backlog.next(256, Instant::now()).unwrap()), [1]);
}

#[test]
fn two_large_fan_outs_take_turns() {
    let mut backlog = EventBacklog::new(1_024);
    for _ in 0..3 {
        backlog.push(waiting(1, "a", 600), Instant::now());
    }
    for _ in 0..3 {
        backlog.push(waiting(2, "b", 600), Instant::now());
    }
    let mut order = Vec::new();
    while let Some(slice) = backlog.next(256, Instant::now()) {
        backlog.slice_ended(&slice.organizations);
        order.extend(messages(&slice));
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 2]);
    assert!(backlog.organizations.is_empty() && backlog.order.is_empty());
}

#[test]
fn small_events_of_many_organizations_share_a_slice() {
    let mut backlog = EventBacklog::new(1_024);
    for number in 0..300 {
        backlog.push(
            waiting(number, &format!("o{}", number % 100), 2),
            Instant::now(),
        );
    }
    let slice = backlog.next(256, Instant::now()).unwrap();
    assert_eq!((slice.events.len(), slice.organizations.len()), (256, 86));
    assert_eq!(backlog.next(256, Instant::now()).unwrap().events.len(), 44);
}

#[test]
fn an_organization_with_too_many_waiting_deliveries_is_crowded() {
    let mut backlog = EventBacklog::new(1_024);
    assert_eq!(backlog.delay_if_crowded(&owner("a")), None);
    backlog.push(waiting(1, "a", 19_000), Instant::now());
    assert_eq!(backlog.delay_if_crowded(&owner("a")), None);
    backlog.push(waiting(2, "a", 1_000), Instant::now());
    assert_eq!(
        backlog.delay_if_crowded(&owner("a")),
        Some(Duration::from_secs(4))
    );
    assert_eq!(backlog.delay_if_crowded(&owner("b")), None);
}

#[test]
fn forget_removes_the_waiting_events_of_a_message() {
    let mut backlog = EventBacklog::new(1_024);
    backlog.push(waiting(1, "a", 1), Instant::now());
    backlog.push(waiting(2, "a", 1), Instant::now());
    backlog.push(waiting(1, "b", 1), Instant::now());
    backlog.forget(&HashSet::from([1]));
    assert_eq!(messages(&backlog.next(256, Instant::now()).unwrap()), [2]);
    assert!(!backlog.has_turn(Instant::now()));
    backlog.push(waiting(3, "c", 1), Instant::now());
    backlog.clear();
    assert!(!backlog.has_turn(Instant::now()));
}

/// Writes one slice at a time and lets time pass.
struct FakeStore {
    now: Instant,
    takes: fn(&WaitingEvent) -> bool,
    /// The duration of a failing transaction.
    fails_after: Duration,
    can_be_written: bool,
    taken: Vec<u64>,
    faulty: Vec<u64>,
    deferred: Vec<u64>,
}

impl FakeStore {
    fn that(takes: fn(&WaitingEvent) -> bool) -> Self {
        Self {
            now: Instant::now(),
            takes,
            fails_after: Duration::from_millis(5),
            can_be_written: true,
            taken: Vec::new(),
            faulty: Vec::new(),
            deferred: Vec::new(),
        }
    }

    /// One slice, or the wait until one can begin. None if no event waits.
    fn turn(&mut self, backlog: &mut EventBacklog) -> Option<()> {
        let Some(slice) = backlog.next(256, self.now) else {
            assert!(!backlog.has_turn(self.now));
            self.now = backlog.due(self.now)?;
            return Some(());
        };
        let organizations = slice.organizations.clone();
        let began = self.now;
        if slice.events.iter().all(self.takes) {
            self.now += Duration::from_millis(1);
            self.taken.extend(messages(&slice));
            let written = Some(WriteKind::WithDeliveries);
            backlog.committed(&organizations, slice.is_slow, written, self.now);
        } else {
            self.now += self.fails_after;
            let failure = SliceFailure {
                began,
                ended: self.now,
                is_transient: true,
                can_be_written: self.can_be_written,
                is_slow: slice.is_slow,
            };
            let consequence = backlog.failed(slice.events, failure);
            self.faulty
                .extend(consequence.faulty.map(|one| one.message));
            backlog.forget(&consequence.deferred);
            self.deferred.extend(consequence.deferred);
        }
        backlog.slice_ended(&organizations);
        Some(())
    }

    fn turns(&mut self, backlog: &mut EventBacklog, until: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if until(self) || self.turn(backlog).is_none() {
                return;
            }
        }
        panic!("{:?} taken, {:?} put off", self.taken, self.deferred);
    }
}

fn is_bad(one: &WaitingEvent) -> bool {
    one.message >= 1_000
}

#[test]
fn while_nothing_can_be_written_slices_stay_whole_and_go_on_soon_afterwards() {
    let mut backlog = EventBacklog::new(1_024);
    let mut store = FakeStore::that(|_| false);
    store.can_be_written = false;
    for number in 0..20 {
        backlog.push(waiting(number, &format!("o{}", number % 4), 1), store.now);
    }
    let begun = store.now;
    store.turns(&mut backlog, |store| {
        store.now > begun + Duration::from_secs(120)
    });
    // The store can be written again, but old connections fail for a moment.
    store.can_be_written = true;
    let back = store.now;
    for _ in 0..2 {
        store.turn(&mut backlog).unwrap();
    }
    assert!(store.deferred.is_empty() && store.faulty.is_empty());
    store.takes = |_| true;
    store.turns(&mut backlog, |_| false);
    store.taken.sort_unstable();
    assert_eq!(store.taken, (0..20).collect::<Vec<_>>());
    assert!(store.now - back <= 4 * MAX_PAUSE);
    assert!(backlog.organizations.is_empty());
}

#[test]
fn an_event_that_fails_alone_is_held_and_dead_lettered_after_a_minute_of_others() {
    let mut backlog = EventBacklog::new(1_024);
    let mut store = FakeStore::that(|one| !is_bad(one));
    let begun = store.now;
    backlog.push(waiting(1_000, "a", 1), store.now);
    let mut number = 0;
    while store.faulty.is_empty() {
        number += 1;
        backlog.push(waiting(number, "a", 1), store.now);
        let pushed = store.now;
        store.turns(&mut backlog, |store| store.taken.last() == Some(&number));
        assert!(store.now - pushed < Duration::from_secs(3), "{number}");
        store.now += Duration::from_secs(1);
        assert!(number < 120);
    }
    assert_eq!(store.faulty, [1_000]);
    assert!(store.now - begun >= Duration::from_secs(60));
    assert!(store.deferred.is_empty());
}

#[test]
fn one_faulty_event_among_many_is_found_soon() {
    let mut backlog = EventBacklog::new(1_024);
    let mut store = FakeStore::that(|one| !is_bad(one));
    for number in 0..256 {
        let message = if number == 100 { 1_000 } else { number };
        backlog.push(waiting(message, "a", 1), store.now);
    }
    let begun = store.now;
    store.turns(&mut backlog, |store| store.taken.len() == 255);
    assert!(store.now - begun < Duration::from_secs(5));
    assert!(store.deferred.is_empty() && store.faulty.is_empty());
}

#[test]
fn an_organization_with_locked_rows_delays_no_other_and_loses_no_event() {
    let mut backlog = EventBacklog::new(100);
    let mut store = FakeStore::that(|one| !is_bad(one));
    // Each attempt lasts until the store's timeout.
    store.fails_after = Duration::from_secs(4);
    for number in 1_000..1_090 {
        backlog.push(waiting(number, "locked", 1), store.now);
    }
    for number in 0..10 {
        backlog.push(waiting(number, &format!("o{number}"), 1), store.now);
    }
    let begun = store.now;
    store.turns(&mut backlog, |store| store.taken.len() == 10);
    // One attempt with the others and one without them.
    assert!(store.now - begun <= Duration::from_secs(9));
    for number in 10..60 {
        backlog.push(waiting(number, "o", 1), store.now);
        let pushed = store.now;
        store.turns(&mut backlog, |store| store.taken.last() == Some(&number));
        assert!(store.now - pushed <= Duration::from_secs(5), "{number}");
        store.now += Duration::from_secs(2);
    }
    // Events of other organizations were written for minutes, and none of this one.
    assert!(store.faulty.is_empty());
    assert!(store.now - begun > Duration::from_secs(100));
    // Some events stay, and most of those that come meanwhile are deferred.
    assert_eq!(store.deferred.len(), 90 - 1);
    let locked = owner("locked");
    assert_eq!(backlog.delay_if_crowded(&locked), None);
    backlog.push(waiting(1_100, "locked", 1), store.now);
    let wait = backlog.delay_if_crowded(&locked).unwrap();
    assert_eq!(wait, DEFER_FOR);

    store.takes = |_| true;
    let unlocked = store.now;
    store.turns(&mut backlog, |_| false);
    assert!(store.now - unlocked <= Duration::from_secs(6));
    let of_it = store.taken.iter().filter(|one| **one >= 1_000).count();
    assert_eq!(of_it, 2);
    assert!(backlog.organizations.is_empty());
}

#[test]
fn organizations_with_locked_rows_share_one_transaction_at_a_time() {
    let mut backlog = EventBacklog::new(64);
    let mut store = FakeStore::that(|one| !is_bad(one));
    store.fails_after = Duration::from_secs(4);
    for number in 0..200 {
        backlog.push(
            waiting(1_000 + number, &format!("o{}", number % 40), 1),
            store.now,
        );
    }
    let begun = store.now;
    store.turns(&mut backlog, |store| {
        store.now > begun + Duration::from_secs(1_000)
    });
    let held: usize = backlog
        .organizations
        .values()
        .map(OrganizationQueue::held)
        .sum();
    assert!(held <= 16, "{held}");
    assert!(store.deferred.len() >= 150, "{:?}", store.deferred);
    // While a slice of a failing organization is in the store, other failing ones wait. Healthy organizations do not
    // wait.
    while backlog.next(256, store.now).is_none() {
        store.now = backlog.due(store.now).unwrap();
    }
    backlog.push(waiting(1, "other", 1), store.now);
    assert_eq!(messages(&backlog.next(256, store.now).unwrap()), [1]);
    assert!(!backlog.has_turn(store.now + Duration::from_secs(60)));
}

#[test]
fn an_organization_whose_events_were_all_deferred_is_still_failing_when_they_come_again() {
    let mut backlog = EventBacklog::new(1_024);
    let mut store = FakeStore::that(|one| !is_bad(one));
    store.fails_after = Duration::from_secs(4);
    let push = |backlog: &mut EventBacklog, now| {
        // One message with many events.
        for _ in 0..100 {
            backlog.push(waiting(1_000, "locked", 1), now);
        }
    };
    push(&mut backlog, store.now);
    store.turns(&mut backlog, |store| !store.deferred.is_empty());
    assert!(backlog.organizations.is_empty());
    store.now += Duration::from_secs(30);
    push(&mut backlog, store.now);
    let slice = backlog.next(256, store.now).unwrap();
    assert_eq!((slice.events.len(), slice.is_slow), (1, true));
    assert!(backlog.away.is_empty());
    backlog.committed(
        &slice.organizations,
        true,
        Some(WriteKind::WithDeliveries),
        store.now,
    );
    backlog.slice_ended(&slice.organizations);
    assert_eq!(backlog.next(256, store.now).unwrap().events.len(), 4);

    // A stuck organization is forgotten after a while: another replica may have received its deferred messages.
    let mut backlog = EventBacklog::new(1_024);
    push(&mut backlog, store.now);
    store.deferred.clear();
    store.turns(&mut backlog, |store| !store.deferred.is_empty());
    store.now += Duration::from_secs(120);
    push(&mut backlog, store.now);
    assert_eq!(backlog.next(256, store.now).unwrap().events.len(), 100);
}

proptest! {
    #[test]
    fn a_slice_is_bounded_and_each_event_is_in_one(
        events in proptest::collection::vec((0..4_u8, 0..2_500_usize), 1..80),
        most in 1..300_usize,
    ) {
        let mut backlog = EventBacklog::new(1_024);
        for (number, (owner, deliveries)) in events.iter().enumerate() {
            backlog.push(waiting(number as u64, &owner.to_string(), *deliveries), Instant::now());
        }
        let mut seen = Vec::new();
        while let Some(slice) = backlog.next(most, Instant::now()) {
            let weight: usize = slice.events.iter().map(WaitingEvent::weight).sum();
            prop_assert!(weight <= MAX_DELIVERIES || slice.events.len() == 1);
            prop_assert!(slice.events.len() <= most);
            prop_assert!(slice.size == FanOutSize::Small || slice.organizations.len() == 1);
            seen.extend(messages(&slice));
            backlog.slice_ended(&slice.organizations);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..events.len() as u64).collect::<Vec<_>>());
        prop_assert!(backlog.organizations.is_empty());
    }
}
