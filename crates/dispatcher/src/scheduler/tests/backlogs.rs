//! Subscription queues and their backlogs.

use super::*;

fn alone_each(to: SubscriptionId) -> ShareGroups {
    alone(to)
}

/// A slow subscription queue with a backlog of `count` rows.
fn with_backlog(count: u32) -> (Clocked, Shelf) {
    let mut clocked = Clocked::new(16, 512);
    let mut shelf = Shelf::default();
    clocked.push(HANGING, 0..count);
    let started = clocked.start_all();
    clocked.pass(1_001);
    assert!(clocked.start_all().is_empty());
    shelf.put(clocked.lanes.take_excess());
    clocked.finish(started, 1_001);
    (clocked, shelf)
}

#[test]
fn a_lane_that_is_well_again_drains_its_backlog_in_order() {
    let (mut clocked, mut shelf) = with_backlog(500);
    let mut order = Vec::new();
    for _ in 0..200 {
        let started = clocked.start_all();
        order.extend(started.iter().map(|one| one.1.1 & !MARKED));
        for one in started {
            shelf.done(one.1);
            clocked.finish(vec![one], 5);
        }
        shelf.put(clocked.lanes.take_excess());
        shelf.serve(&mut clocked, alone_each);
        clocked.pass(50);
    }
    assert!(order.is_sorted() && order.len() == 500 - 8, "{order:?}");
    assert!(
        clocked.lanes.lanes.is_empty(),
        "nothing is left to remember"
    );
    assert!(!clocked.lanes.may_read());
}

#[test]
fn new_messages_go_behind_a_backlog_until_a_search_from_the_start_finds_nothing() {
    let (mut clocked, mut shelf) = with_backlog(300);
    clocked.push(HANGING, 1_000..1_001);
    let excess = clocked.lanes.take_excess();
    assert_eq!(excess, [(HANGING, 1_000)]);
    shelf.put(excess);
    let mut last = 0;
    for _ in 0..200 {
        for one in clocked.start_all() {
            last = one.1.1 & !MARKED;
            shelf.done(one.1);
            clocked.finish(vec![one], 5);
        }
        shelf.serve(&mut clocked, alone_each);
        clocked.pass(50);
    }
    assert_eq!(last, 1_000);
    clocked.push(HANGING, 1_001..1_002);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_lane_reads_on_when_half_of_what_waits_has_started() {
    let (mut clocked, mut shelf) = with_backlog(500);
    let started = clocked.start_all();
    clocked.finish(started.into_iter().take(1).collect(), 5);
    let reads = shelf.serve(&mut clocked, alone_each);
    let [
        Read {
            limit,
            class: BacklogClass::Live,
            after: None,
            ..
        },
    ] = reads[..]
    else {
        panic!("{reads:?}")
    };
    assert!((200..=256).contains(&limit), "half of the room: {limit}");
    assert!(
        shelf.serve(&mut clocked, alone_each).is_empty(),
        "it is full"
    );
}

#[test]
fn backlogs_leave_half_of_the_room_to_what_has_just_become_due() {
    let mut clocked = Clocked::new(64, 400);
    for lane in 0..40 {
        clocked
            .lanes
            .note_backlog(SubscriptionId(lane), BacklogClass::Live, clocked.now);
    }
    let reads = clocked.lanes.take_reads(clocked.now);
    let planned: usize = reads.iter().map(|read| read.limit).sum();
    assert_eq!(planned, 200);
}

#[test]
fn one_of_a_replay_starts_between_others() {
    let mut clocked = Clocked::new(1, 64);
    clocked.push(HEALTHY, 0..6);
    clocked.push(HEALTHY, (MARKED | REPLAYED)..(MARKED | REPLAYED) + 6);
    let mut order = Vec::new();
    for _ in 0..12 {
        let started = clocked.start_all();
        order.extend(started.iter().map(|one| one.1.1 & REPLAYED != 0));
        clocked.finish(started, 5);
    }
    let replayed = |slots: &[bool]| slots.iter().filter(|one| **one).count();
    assert_eq!(replayed(&order), 6);
    assert!((1..=2).contains(&replayed(&order[..6])), "{order:?}");
}

#[test]
fn a_lane_that_was_taken_over_with_backlog_starts_one_request() {
    let mut clocked = Clocked::new(16, 64);
    clocked.lanes.take_over(HEALTHY, None);
    clocked
        .lanes
        .note_backlog(HEALTHY, BacklogClass::Live, clocked.now);
    let reads = clocked.lanes.take_reads(clocked.now);
    assert_eq!(reads.len(), 1);
    clocked.push(HEALTHY, MARKED..MARKED + 4);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.finish(probe, 5);
    clocked.push(HEALTHY, (MARKED + 4)..(MARKED + 8));
    assert_eq!(clocked.start_all().len(), 4);
}

#[test]
fn a_lane_that_was_taken_over_goes_on_at_the_pace_of_its_breaker() {
    let mut clocked = Clocked::new(16, 64);
    clocked
        .lanes
        .take_over(HANGING, Some(Duration::from_secs(8)));
    clocked.push(HANGING, 0..1);
    let probe = clocked.start_all();
    assert_eq!(probe.len(), 1);
    clocked.fail(probe, 5);
    clocked.push(HANGING, 1..2);
    clocked.pass(15_999);
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn a_lane_that_is_held_starts_one_when_its_time_has_come() {
    let mut clocked = Clocked::new(16, 64);
    clocked.push(HEALTHY, 0..10);
    let (_, message) = clocked.lanes.next(clocked.now).unwrap();
    let until = clocked.now + Duration::from_secs(60);
    clocked.lanes.hold(HEALTHY, message, until, clocked.now);
    assert!(clocked.start_all().is_empty());
    assert_eq!(clocked.lanes.take_excess().len(), 9, "one is kept");
    assert!(clocked.lanes.take_breaker_changes().is_empty());
    clocked.pass(59_999);
    assert!(clocked.start_all().is_empty());
    clocked.pass(1);
    assert_eq!(clocked.start_all().len(), 1);
}

#[test]
fn lanes_of_partitions_that_were_given_up_are_forgotten() {
    let (mut clocked, _) = with_backlog(100);
    clocked.lanes.retain(|_| false);
    assert!(clocked.lanes.lanes.is_empty());
    assert_eq!(clocked.lanes.totals().waiting, 0);
    assert!(clocked.lanes.take_reads(clocked.now).is_empty());
}

#[test]
fn of_a_lane_that_fails_a_search_is_repeated() {
    let mut clocked = Clocked::new(16, 64);
    clocked
        .lanes
        .note_backlog(HEALTHY, BacklogClass::Live, clocked.now);
    let [read] = clocked.lanes.take_reads(clocked.now)[..] else {
        panic!("none")
    };
    assert!(
        clocked.lanes.take_reads(clocked.now).is_empty(),
        "one at a time"
    );
    clocked.lanes.read_failed(read, clocked.now);
    assert!(
        clocked.lanes.take_reads(clocked.now).is_empty(),
        "too early"
    );
    clocked.pass(250);
    assert_eq!(clocked.lanes.take_reads(clocked.now), [read]);
}
