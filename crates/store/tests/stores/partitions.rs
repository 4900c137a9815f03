//! Owners of partitions, and the deliveries that are due in them.

use std::process::Command;

use hookline_core::delivery::{AttemptTask, StartedBy};
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::{DispatcherId, Partition, Partitions};
use hookline_store::{
    ClusterState, DueAttempt, DueQuery, HandOver, Heartbeat, NextStep, PartitionClaim,
    PartitionCounts, PartitionOwner, PartitionRange, RestartResult,
};
use uuid::Uuid;

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both};

on_both!(
    a_delivery_that_becomes_pending_is_in_the_partition_of_its_subscription,
    of_two_claims_with_the_same_observation_one_succeeds,
    an_owner_that_did_not_release_counts_as_dead_for_ten_minutes,
    a_partition_is_handed_over_to_a_registered_successor_alone,
    a_note_is_written_in_its_epoch_alone,
    a_heartbeat_returns_all_dispatchers_and_partitions,
    a_dispatcher_that_is_not_registered_has_no_heartbeat,
    a_due_query_finds_rows_from_its_floor_up_to_its_limit,
    a_due_query_finds_the_newest_rows_behind_many_old_ones,
    a_due_query_finds_restarted_deliveries_and_none_that_are_due_later,
    due_deliveries_are_counted_up_to_a_limit,
    pending_deliveries_move_to_their_partitions_after_a_change_of_the_number,
    a_change_of_the_number_is_announced_until_it_is_made,
);

fn of(count: u16) -> Partitions {
    Partitions::new(count).unwrap()
}

async fn dispatcher(fixture: &Fixture) -> DispatcherId {
    let id = DispatcherId(Uuid::new_v4());
    fixture.store.register_dispatcher(id).await.unwrap();
    id
}

async fn roster(fixture: &Fixture, id: DispatcherId) -> (ClusterState, Partitions) {
    let beat = Heartbeat {
        id,
        draining: false,
        can_deliver: true,
    };
    fixture.store.beat(beat).await.unwrap().unwrap()
}

fn claim(holding: &PartitionOwner) -> PartitionClaim {
    PartitionClaim {
        partition: holding.partition,
        owner: holding.owner,
        epoch: holding.epoch,
    }
}

/// Takes partition 0 as `seen`; None where another was faster.
async fn take(
    fixture: &Fixture,
    me: DispatcherId,
    seen: &PartitionOwner,
) -> Option<PartitionOwner> {
    let taken = fixture.store.claim_partitions(me, vec![claim(seen)]);
    taken.await.unwrap().pop()
}

async fn look(fixture: &Fixture, floor: i64, until: i64, limit: u32) -> Vec<DueAttempt> {
    let partitions = fixture.store.partitions().await.unwrap();
    let into = |partition| PartitionRange {
        partition,
        floor: at(floor),
        limit,
        newest: 0,
    };
    let look = DueQuery {
        partitions: partitions.all().map(into).collect(),
        until: at(until),
    };
    fixture.store.look(look).await.unwrap()
}

fn misplaced(fixture: &Fixture, count: u16) -> i64 {
    fixture.number(&format!(
        "SELECT count(*) FROM deliveries WHERE partition <> subscription_id % {count}"
    ))
}

async fn a_delivery_that_becomes_pending_is_in_the_partition_of_its_subscription(fixture: Fixture) {
    fixture.store.resize_partitions(of(5)).await.unwrap();
    let mut to = SubscriptionId(0);
    for _ in 0..7 {
        to = fixture.subscribe("a").await.id;
    }
    // Few events are another statement than many, on PostgreSQL.
    let task = fixture.task("a", "few").await;
    let many = (0..40).map(|number| event("a", &number.to_string()));
    fixture.intake(many.collect()).await;
    let test = fixture.store.create_test(to, event("a", "test"), now());
    test.await.unwrap().unwrap();
    assert_eq!(misplaced(&fixture, 5), 0);
    let partitions = "SELECT count(DISTINCT partition) FROM deliveries";
    assert_eq!(fixture.number(partitions), 5);

    // Its number of partitions is read when it is started again.
    fixture.store.resize_partitions(of(3)).await.unwrap();
    let record = attempted(
        task,
        task.subscription,
        &event("a", "few"),
        NextStep::Delivered,
    );
    fixture.record(vec![record]).await;
    let again = fixture
        .store
        .restart(None, task.delivery, StartedBy::Retry, now());
    assert!(matches!(again.await.unwrap(), RestartResult::Started(_)));
    let started = format!(
        "SELECT partition FROM deliveries WHERE generation = 1 AND subscription_id = {}",
        task.subscription.0
    );
    assert_eq!(fixture.number(&started), task.subscription.0 % 3);
}

#[tokio::test]
async fn a_program_of_an_older_version_inserts_no_delivery() {
    let fixture = Fixture::postgres().await;
    let insert = "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                      attempts, state, due, created_at)
                  VALUES (gen_random_uuid(), 'a', 1, gen_random_uuid(), 'event', 0, 0, 0, 'pending', 1, 1)";
    let done = Command::new("psql")
        .args([fixture.url(), "-Xqc", insert])
        .output();
    let done = done.unwrap();
    assert!(!done.status.success());
    let why = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(why.contains("partition"), "{why}");
}

async fn of_two_claims_with_the_same_observation_one_succeeds(fixture: Fixture) {
    let [one, other] = [dispatcher(&fixture).await, dispatcher(&fixture).await];
    let (seen, _) = roster(&fixture, one).await;
    let free = &seen.partitions[0];
    assert_eq!((free.partition, free.owner), (Partition(0), None));
    let (a, b) = tokio::join!(take(&fixture, one, free), take(&fixture, other, free));
    let taken = [a, b].into_iter().flatten().collect::<Vec<_>>();
    let [taken] = &taken[..] else {
        panic!("{taken:?}");
    };
    assert_eq!(taken.epoch, free.epoch + 1);
    assert_eq!((taken.deaths, taken.note.as_str()), (0, ""));
    let (now, _) = roster(&fixture, other).await;
    assert_eq!(&now.partitions[0], taken);

    // The same owner in another epoch, or the same epoch of another owner, is another observation.
    for (owner, epoch) in [(taken.owner, free.epoch), (None, taken.epoch)] {
        let seen = PartitionOwner {
            owner,
            epoch,
            ..taken.clone()
        };
        assert_eq!(take(&fixture, other, &seen).await, None);
    }
    assert!(take(&fixture, other, taken).await.is_some());
}

async fn an_owner_that_did_not_release_counts_as_dead_for_ten_minutes(fixture: Fixture) {
    let mut seen = roster(&fixture, dispatcher(&fixture).await)
        .await
        .0
        .partitions[0]
        .clone();
    // The first takes a free partition.
    for deaths in 0..3 {
        seen = take(&fixture, dispatcher(&fixture).await, &seen)
            .await
            .unwrap();
        assert_eq!(seen.deaths, deaths);
    }
    let read = async || {
        let (seen, _) = roster(&fixture, dispatcher(&fixture).await).await;
        seen.partitions[0].clone()
    };
    // A release is no death, and the deaths before it count on.
    let free = HandOver {
        partition: seen.partition,
        epoch: seen.epoch,
        to: None,
        note: String::new(),
    };
    let moved = fixture.store.hand_over(seen.owner.unwrap(), vec![free]);
    assert_eq!(moved.await.unwrap(), [Partition(0)]);
    seen = take(&fixture, dispatcher(&fixture).await, &read().await)
        .await
        .unwrap();
    assert_eq!(seen.deaths, 2);

    let minutes_pass = |minutes: i64| {
        let micros = minutes * 60_000_000;
        fixture.sql(&format!(
            "UPDATE partitions SET died_at = died_at - {micros}"
        ));
    };
    minutes_pass(9);
    assert_eq!(read().await.deaths, 2);
    minutes_pass(2);
    assert_eq!(read().await.deaths, 0);
    seen = take(&fixture, dispatcher(&fixture).await, &seen)
        .await
        .unwrap();
    assert_eq!(seen.deaths, 1);
}

async fn a_partition_is_handed_over_to_a_registered_successor_alone(fixture: Fixture) {
    let [me, next] = [dispatcher(&fixture).await, dispatcher(&fixture).await];
    let (seen, _) = roster(&fixture, me).await;
    let own = take(&fixture, me, &seen.partitions[0]).await.unwrap();
    let to = |to, epoch| HandOver {
        partition: Partition(0),
        epoch,
        to,
        note: "in flight".to_owned(),
    };
    let store = &fixture.store;
    let wrong = [(next, own.epoch), (me, own.epoch + 1)];
    for (owner, epoch) in wrong {
        let moved = store.hand_over(owner, vec![to(Some(next), epoch)]);
        assert_eq!(moved.await.unwrap(), []);
    }
    let moved = store.hand_over(me, vec![to(Some(next), own.epoch)]);
    assert_eq!(moved.await.unwrap(), [Partition(0)]);
    let (seen, _) = roster(&fixture, next).await;
    let theirs = PartitionOwner {
        owner: Some(next),
        epoch: own.epoch + 1,
        note: "in flight".to_owned(),
        ..own
    };
    assert_eq!(seen.partitions[0], theirs);

    // The successor has gone.
    store.unregister_dispatcher(me).await.unwrap();
    let moved = store.hand_over(next, vec![to(Some(me), theirs.epoch)]);
    assert_eq!(moved.await.unwrap(), [Partition(0)]);
    let (seen, _) = roster(&fixture, next).await;
    assert_eq!(seen.partitions[0].owner, None);
    assert_eq!(seen.partitions[0].epoch, theirs.epoch + 1);
}

async fn a_note_is_written_in_its_epoch_alone(fixture: Fixture) {
    let me = dispatcher(&fixture).await;
    let (seen, _) = roster(&fixture, me).await;
    let own = take(&fixture, me, &seen.partitions[0]).await.unwrap();
    let note = async |epoch, note: &str| {
        let noted = fixture.store.note(Partition(0), epoch, note.to_owned());
        noted.await.unwrap()
    };
    assert!(note(own.epoch, "mine").await);
    assert!(!note(own.epoch - 1, "late").await);
    assert_eq!(roster(&fixture, me).await.0.partitions[0].note, "mine");
}

async fn a_heartbeat_returns_all_dispatchers_and_partitions(fixture: Fixture) {
    let store = &fixture.store;
    let count = store.partitions().await.unwrap();
    let expected = match fixture.is_postgres() {
        true => Partitions::DEFAULT,
        false => Partitions::ONE,
    };
    assert_eq!(count, expected);
    let [one, other] = [dispatcher(&fixture).await, dispatcher(&fixture).await];
    let beat = Heartbeat {
        id: one,
        draining: true,
        can_deliver: false,
    };
    store.beat(beat).await.unwrap().unwrap();
    let (seen, known) = roster(&fixture, other).await;
    assert_eq!(known, count);
    let numbers = seen.partitions.iter().map(|holding| holding.partition);
    assert_eq!(numbers.collect::<Vec<_>>(), count.all().collect::<Vec<_>>());
    let of = |id| {
        let found = seen.dispatchers.iter().find(|one| one.id == id).unwrap();
        (found.heartbeat, found.draining, found.can_deliver)
    };
    assert_eq!(seen.dispatchers.len(), 2);
    assert_eq!(of(one), (1, true, false));
    assert_eq!(of(other), (1, false, true));
    assert_eq!(roster(&fixture, other).await.0.dispatchers.len(), 2);
}

async fn a_dispatcher_that_is_not_registered_has_no_heartbeat(fixture: Fixture) {
    let store = &fixture.store;
    let [one, other] = [dispatcher(&fixture).await, dispatcher(&fixture).await];
    // A dispatcher repeats its registration when the answer was lost.
    store.register_dispatcher(one).await.unwrap();
    let beat = |id| {
        store.beat(Heartbeat {
            id,
            draining: false,
            can_deliver: true,
        })
    };
    store.unregister_dispatcher(one).await.unwrap();
    assert_eq!(beat(one).await.unwrap(), None);
    assert!(beat(other).await.unwrap().is_some());
    fixture.sql("UPDATE dispatchers SET seen_at = seen_at - 86390000000");
    dispatcher(&fixture).await;
    fixture.sql("UPDATE dispatchers SET seen_at = seen_at - 20000000");
    dispatcher(&fixture).await;
    assert_eq!(beat(other).await.unwrap(), None);
    assert_eq!(fixture.number("SELECT count(*) FROM dispatchers"), 2);
}

/// Two subscriptions, and three deliveries to each, due a second after one another from [`NOW`] on.
async fn deliveries(fixture: &Fixture) -> Vec<AttemptTask> {
    let mut all = Vec::new();
    fixture.subscribe("a").await;
    fixture.subscribe("a").await;
    for second in 0..3 {
        let event = event("a", &second.to_string());
        let given = fixture.store.intake(
            &fixture.index,
            vec![event].into(),
            at(NOW + second * 1_000_000),
        );
        all.extend(given.await.unwrap().tasks);
    }
    all
}

async fn a_due_query_finds_rows_from_its_floor_up_to_its_limit(fixture: Fixture) {
    let all = deliveries(&fixture).await;
    for count in [1, 7] {
        fixture.store.resize_partitions(of(count)).await.unwrap();
        let ids = all.iter().map(|task| task.delivery).collect();
        fixture.store.repartition_deliveries(ids).await.unwrap();
        let seconds = async |floor: i64, until: i64, limit| {
            let found = look(&fixture, NOW + floor, NOW + until, limit).await;
            assert!(found.iter().all(|one| all.contains(&one.task)));
            assert!(
                found
                    .iter()
                    .all(|one| one.partition == of(count).of(one.task.subscription))
            );
            let seconds = found
                .iter()
                .map(|one| (one.due.unix_micros() - NOW) / 1_000_000);
            seconds.collect::<Vec<_>>()
        };
        assert_eq!(seconds(0, 2_000_000, 10).await, [0, 0, 1, 1, 2, 2]);
        assert_eq!(seconds(0, 1_999_999, 10).await, [0, 0, 1, 1]);
        assert_eq!(seconds(1, 2_000_000, 10).await, [1, 1, 2, 2]);
        // The limit is that of a partition.
        let limited = if count == 1 {
            vec![0, 0, 1]
        } else {
            vec![0, 0, 1, 1, 2, 2]
        };
        assert_eq!(seconds(0, 2_000_000, 3).await, limited);
        assert_eq!(seconds(0, 2_000_000, 0).await, [0; 0]);
    }
    let nothing = DueQuery {
        partitions: Vec::new(),
        until: at(NOW + 10_000_000),
    };
    assert_eq!(fixture.store.look(nothing).await.unwrap(), []);
}

async fn a_due_query_finds_the_newest_rows_behind_many_old_ones(fixture: Fixture) {
    deliveries(&fixture).await;
    fixture.store.resize_partitions(of(1)).await.unwrap();
    fixture.sql("UPDATE deliveries SET partition = 0");
    let seconds = async |limit, newest| {
        let into = PartitionRange {
            partition: Partition(0),
            floor: at(0),
            limit,
            newest,
        };
        let look = DueQuery {
            partitions: vec![into],
            until: at(NOW + 1_999_999),
        };
        let found = fixture.store.look(look).await.unwrap();
        let seconds = found
            .iter()
            .map(|one| (one.due.unix_micros() - NOW) / 1_000_000);
        seconds.collect::<Vec<_>>()
    };
    assert_eq!(seconds(1, 1).await, [0, 1]);
    assert_eq!(seconds(1, 2).await, [0, 1, 1]);
    // A row that both searches find is in the answer once.
    assert_eq!(seconds(3, 3).await, [0, 0, 1, 1]);
    assert_eq!(seconds(10, 10).await, [0, 0, 1, 1]);
}

async fn a_due_query_finds_restarted_deliveries_and_none_that_are_due_later(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let task = fixture.task("a", "1").await;
    let until = async |micros| {
        let found = look(&fixture, 0, NOW + micros, 10).await;
        found
            .into_iter()
            .map(|one| (one.task, one.due))
            .collect::<Vec<_>>()
    };
    assert_eq!(until(-1).await, []);
    assert_eq!(until(0).await, [(task, now())]);

    let next_step = NextStep::Retry { due: at(NOW + 9) };
    fixture
        .record(vec![attempted(task, to, &event("a", "1"), next_step)])
        .await;
    let second = AttemptTask { attempt: 2, ..task };
    assert_eq!(until(8).await, []);
    assert_eq!(until(9).await, [(second, at(NOW + 9))]);
    let record = attempted(second, to, &event("a", "1"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    assert_eq!(until(1_000).await, []);

    let again = fixture
        .store
        .restart(None, task.delivery, StartedBy::Retry, at(NOW + 20));
    let RestartResult::Started(third) = again.await.unwrap() else {
        panic!("not started");
    };
    assert_eq!((third.generation, third.attempt), (1, 3));
    assert_eq!(until(20).await, [(third, at(NOW + 20))]);
}

async fn due_deliveries_are_counted_up_to_a_limit(fixture: Fixture) {
    let all = deliveries(&fixture).await;
    let store = &fixture.store;
    let counted = async |seconds: i64, most| {
        let counted = store.count_due(at(NOW + seconds * 1_000_000), most);
        counted.await.unwrap()
    };
    assert_eq!(counted(-1, 10).await, 0);
    assert_eq!(counted(0, 10).await, 2);
    assert_eq!(counted(2, 10).await, 6);
    assert_eq!(counted(2, 5).await, 5);

    let totals = store.partition_counts(at(NOW + 1_000_000)).await.unwrap();
    let partitions = store.partitions().await.unwrap();
    let of_partition = |partition| {
        let pending = all
            .iter()
            .filter(|task| partitions.of(task.subscription) == partition);
        let pending = pending.count() as u64;
        PartitionCounts {
            partition,
            due: pending * 2 / 3,
            backlog: 0,
            later: pending - pending * 2 / 3,
        }
    };
    let expected = partitions.all().map(of_partition);
    assert_eq!(totals, expected.collect::<Vec<_>>());
}

async fn pending_deliveries_move_to_their_partitions_after_a_change_of_the_number(
    fixture: Fixture,
) {
    let store = &fixture.store;
    store.resize_partitions(of(64)).await.unwrap();
    for _ in 0..9 {
        fixture.subscribe("a").await;
    }
    let first = fixture.task("a", "1").await;
    let given = fixture.intake(vec![event("a", "2")]).await;
    let me = dispatcher(&fixture).await;
    let (seen, _) = roster(&fixture, me).await;
    let of_three = take(&fixture, me, &seen.partitions[3]).await.unwrap();

    // Fewer: the rows of partitions that are no more are found by the index.
    store.resize_partitions(of(2)).await.unwrap();
    let record = attempted(
        first,
        first.subscription,
        &event("a", "1"),
        NextStep::Delivered,
    );
    fixture.record(vec![record]).await;
    let (seen, count) = roster(&fixture, me).await;
    assert_eq!((seen.partitions.len(), count), (2, of(2)));
    let beyond = "SELECT count(*) FROM deliveries WHERE due IS NOT NULL AND partition > 1";
    let left = fixture.number(beyond);
    assert!(left >= 15, "{left}");
    assert_eq!(store.refile(10).await.unwrap(), 10);
    assert_eq!(fixture.number(beyond), left - 10);
    while store.refile(10).await.unwrap() > 0 {}
    assert_eq!(fixture.number(beyond), 0);
    let pending = "SELECT count(*) FROM deliveries WHERE due IS NOT NULL AND partition <> subscription_id % 2";
    assert_eq!(fixture.number(pending), 0);
    assert_eq!(look(&fixture, 0, NOW, 100).await.len(), 17);

    // More: the owner of a row's old partition finds it, and moves it.
    store.resize_partitions(of(5)).await.unwrap();
    assert_eq!(store.refile(10).await.unwrap(), 0);
    let ids: Vec<_> = given.tasks.iter().map(|task| task.delivery).collect();
    assert!(store.repartition_deliveries(ids.clone()).await.unwrap() > 0);
    assert_eq!(store.repartition_deliveries(ids).await.unwrap(), 0);
    let moved = "SELECT count(*) FROM deliveries d WHERE due IS NOT NULL AND partition <> subscription_id % 5
                    AND event_key = (SELECT key FROM events WHERE event_id = '2')";
    assert_eq!(fixture.number(moved), 0);
    // A partition that is made again is in none of its earlier epochs.
    let (seen, _) = roster(&fixture, me).await;
    assert_eq!(seen.partitions[3].owner, None);
    assert!(seen.partitions[3].epoch > of_three.epoch);
}

async fn a_change_of_the_number_is_announced_until_it_is_made(fixture: Fixture) {
    let store = &fixture.store;
    store.resize_partitions(of(3)).await.unwrap();
    let me = dispatcher(&fixture).await;
    let numbers = async || {
        let (seen, count) = roster(&fixture, me).await;
        let numbers = seen.partitions.iter().map(|each| each.partition);
        (numbers.collect::<Vec<_>>(), count)
    };
    let (before, _) = numbers().await;
    for _ in 0..2 {
        store.announce_resize().await.unwrap();
        let announced = [&before[..], &[Partition::CHANGE]].concat();
        assert_eq!(numbers().await, (announced, of(3)));
    }
    store.resize_partitions(of(4)).await.unwrap();
    assert_eq!(numbers().await, (of(4).all().collect(), of(4)));
}

#[tokio::test]
async fn the_time_since_the_last_heartbeat_of_each_dispatcher_is_known() {
    let fixture = Fixture::postgres().await;
    let silent = dispatcher(&fixture).await;
    fixture.sql("UPDATE dispatchers SET seen_at = seen_at - 7000000");
    let living = dispatcher(&fixture).await;
    roster(&fixture, living).await;
    let heartbeat_ages = fixture.store.heartbeat_ages().await.unwrap();
    let seconds = |id| {
        let mut all = heartbeat_ages.iter();
        let (_, silence) = all.find(|(one, _)| *one == id).unwrap();
        silence.as_secs()
    };
    assert_eq!(heartbeat_ages.len(), 2);
    assert!(seconds(silent) >= 7 && seconds(living) < 7);
}
