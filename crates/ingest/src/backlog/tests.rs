use hookline_core::event::{Event, MissingId};
use hookline_store::Passage;
use proptest::prelude::*;

use super::*;

fn waiting(message: u64, owner: &str, deliveries: usize) -> Waiting {
    let json = format!(
        r#"{{"event_id":"e{message}","event_type":"workflow.failed","workflow_id":"w","organization_id":"{owner}","timestamp":"2025-12-21T10:30:00Z","data":{{}}}}"#
    );
    Waiting {
        message,
        event: IncomingEvent {
            event: Event::from_json(json.as_bytes(), MissingId::Refused).unwrap(),
            trace: None,
            passage: Passage::First,
        },
        deliveries,
    }
}

fn messages(slice: &Slice) -> Vec<u64> {
    slice.events.iter().map(|one| one.message).collect()
}

fn owner(name: &str) -> OrganizationId {
    OrganizationId::parse(name).unwrap()
}

#[test]
fn another_organization_comes_between_the_slices_of_a_large_fan_out() {
    let mut backlog = Backlog::default();
    for _ in 0..60 {
        backlog.push(waiting(1, "large", 1_000));
    }
    let first = backlog.next(256).unwrap();
    assert_eq!((first.events.len(), first.size), (1, Size::Broad));
    backlog.push(waiting(2, "other", 1));
    let second = backlog.next(256).unwrap();
    assert_eq!((messages(&second), second.size), (vec![2], Size::Small));
    // One is under way, and the others wait for it.
    assert!(!backlog.has_turn());
    assert!(backlog.next(256).is_none());
    backlog.over(&first.organizations);
    assert_eq!(messages(&backlog.next(256).unwrap()), [1]);
}

#[test]
fn an_organization_that_is_alone_has_two_slices_under_way() {
    let mut backlog = Backlog::default();
    for _ in 0..3 {
        backlog.push(waiting(1, "large", 1_000));
    }
    let first = backlog.next(256).unwrap();
    assert_eq!(messages(&backlog.next(256).unwrap()), [1]);
    assert!(!backlog.has_turn());
    backlog.over(&first.organizations);
    assert_eq!(messages(&backlog.next(256).unwrap()), [1]);
}

#[test]
fn two_large_fan_outs_take_turns() {
    let mut backlog = Backlog::default();
    for _ in 0..3 {
        backlog.push(waiting(1, "a", 600));
    }
    for _ in 0..3 {
        backlog.push(waiting(2, "b", 600));
    }
    let mut order = Vec::new();
    while let Some(slice) = backlog.next(256) {
        backlog.over(&slice.organizations);
        order.extend(messages(&slice));
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 2]);
    assert!(backlog.organizations.is_empty() && backlog.order.is_empty());
}

#[test]
fn small_ones_of_many_organizations_share_a_slice() {
    let mut backlog = Backlog::default();
    for number in 0..300 {
        backlog.push(waiting(number, &format!("o{}", number % 100), 2));
    }
    let slice = backlog.next(256).unwrap();
    assert_eq!((slice.events.len(), slice.organizations.len()), (256, 86));
    assert_eq!(backlog.next(256).unwrap().events.len(), 44);
}

#[test]
fn an_organization_with_too_much_in_hand_is_crowded() {
    let mut backlog = Backlog::default();
    assert_eq!(backlog.crowded_for(&owner("a")), None);
    backlog.push(waiting(1, "a", 19_000));
    assert_eq!(backlog.crowded_for(&owner("a")), None);
    backlog.push(waiting(2, "a", 1_000));
    assert_eq!(
        backlog.crowded_for(&owner("a")),
        Some(Duration::from_secs(4))
    );
    assert_eq!(backlog.crowded_for(&owner("b")), None);
}

#[test]
fn what_waits_of_a_message_is_forgotten() {
    let mut backlog = Backlog::default();
    backlog.push(waiting(1, "a", 1));
    backlog.push(waiting(2, "a", 1));
    backlog.push(waiting(1, "b", 1));
    backlog.forget(1);
    assert_eq!(messages(&backlog.next(256).unwrap()), [2]);
    assert!(!backlog.has_turn());
    backlog.push(waiting(3, "c", 1));
    backlog.clear();
    assert!(!backlog.has_turn());
}

proptest! {
    #[test]
    fn a_slice_is_bounded_and_each_event_is_in_one(
        events in proptest::collection::vec((0..4_u8, 0..2_500_usize), 1..80),
        most in 1..300_usize,
    ) {
        let mut backlog = Backlog::default();
        for (number, (owner, deliveries)) in events.iter().enumerate() {
            backlog.push(waiting(number as u64, &owner.to_string(), *deliveries));
        }
        let mut seen = Vec::new();
        while let Some(slice) = backlog.next(most) {
            let weight: usize = slice.events.iter().map(Waiting::weight).sum();
            prop_assert!(weight <= DELIVERIES || slice.events.len() == 1);
            prop_assert!(slice.events.len() <= most);
            prop_assert!(slice.size == Size::Small || slice.organizations.len() == 1);
            seen.extend(messages(&slice));
            backlog.over(&slice.organizations);
        }
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..events.len() as u64).collect::<Vec<_>>());
        prop_assert!(backlog.organizations.is_empty());
    }
}
