//! Backlog: marks, searches, lists, and circuit breakers.

use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryState, StartedBy};
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partitions;
use hookline_core::timestamp::Timestamp;
use hookline_store::{
    BacklogClass, BacklogPosition, BacklogRead, BacklogSubscription, BreakerChange, DueQuery,
    NextStep, PartitionRange, RestartResult, WaitingFor,
};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both};

on_both![
    a_marked_delivery_is_read_as_backlog_and_not_by_a_due_query,
    the_next_attempt_and_a_restart_remove_a_mark,
    only_due_deliveries_in_the_expected_state_are_marked,
    a_read_continues_after_a_position_in_the_order_of_due,
    reads_of_many_backlogs_are_one_query,
    a_list_has_each_subscription_with_backlog_once,
    backlog_moves_to_its_partition_after_a_change_of_the_number,
    a_pending_delivery_shows_the_reason_for_its_wait,
    circuit_breakers_are_kept_until_they_close_or_their_subscription_is_deleted,
];

async fn mark(fixture: &Fixture, tasks: &[AttemptTask]) -> usize {
    let marked = fixture.store.mark_backlog(tasks.to_vec(), now()).await;
    marked.unwrap().len()
}

async fn partitions(fixture: &Fixture) -> Partitions {
    fixture.store.partitions().await.unwrap()
}

async fn search(
    fixture: &Fixture,
    subscription: SubscriptionId,
    after: Option<BacklogPosition>,
    limit: u32,
) -> Vec<(AttemptTask, Timestamp)> {
    let read = BacklogRead {
        partition: partitions(fixture).await.of(subscription),
        subscription,
        class: BacklogClass::Live,
        after,
        limit,
    };
    let found = fixture.store.read_backlog(vec![read], now()).await.unwrap();
    found.iter().map(|row| (row.task, row.due)).collect()
}

async fn look(fixture: &Fixture, subscription: SubscriptionId) -> usize {
    let into = PartitionRange {
        partition: partitions(fixture).await.of(subscription),
        floor: at(0),
        limit: 1_000,
        newest: 0,
    };
    let look = DueQuery {
        partitions: vec![into],
        until: at(NOW + 1_000_000_000),
    };
    fixture.store.look(look).await.unwrap().len()
}

/// Deliveries to one subscription, each due a microsecond after the one before.
async fn tasks(fixture: &Fixture, owner: &str, count: i64) -> Vec<AttemptTask> {
    let mut tasks = Vec::new();
    for number in 0..count {
        let first = fixture.task(owner, &number.to_string()).await;
        let next_step = NextStep::Retry {
            due: at(NOW - count + number),
        };
        let event = event(owner, &number.to_string());
        fixture
            .record(vec![attempted(
                first,
                first.subscription,
                &event,
                next_step,
            )])
            .await;
        tasks.push(AttemptTask {
            attempt: 2,
            ..first
        });
    }
    tasks
}

async fn a_marked_delivery_is_read_as_backlog_and_not_by_a_due_query(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 3).await;
    assert_eq!(look(&fixture, to).await, 3);
    assert_eq!(search(&fixture, to, None, 9).await, []);
    assert_eq!(mark(&fixture, &tasks[1..]).await, 2);
    assert_eq!(
        mark(&fixture, &tasks[1..]).await,
        2,
        "they are marked already"
    );
    assert_eq!(look(&fixture, to).await, 1);
    let found = search(&fixture, to, None, 9).await;
    assert_eq!(found, [(tasks[1], at(NOW - 2)), (tasks[2], at(NOW - 1))]);
    let now = at(NOW);
    assert_eq!(fixture.store.count_due(now, 9).await.unwrap(), 1);
    let totals = fixture.store.partition_counts(now).await.unwrap();
    let own = partitions(&fixture).await.of(to);
    let own = totals.iter().find(|one| one.partition == own).unwrap();
    assert_eq!((own.due, own.backlog, own.later), (1, 2, 0));
}

async fn the_next_attempt_and_a_restart_remove_a_mark(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 2).await;
    mark(&fixture, &tasks).await;
    let due = at(NOW + 9);
    let record = attempted(tasks[0], to, &event("a", "0"), NextStep::Retry { due });
    fixture.record(vec![record]).await;
    let record = attempted(tasks[1], to, &event("a", "1"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    assert_eq!(search(&fixture, to, None, 9).await, []);
    assert_eq!(look(&fixture, to).await, 1);
    let again = fixture
        .store
        .restart(None, tasks[1].delivery, StartedBy::Retry, now());
    assert!(matches!(again.await.unwrap(), RestartResult::Started(_)));
    assert_eq!(look(&fixture, to).await, 2, "a retry by hand is no backlog");
    assert_eq!(search(&fixture, to, None, 9).await, []);
}

async fn only_due_deliveries_in_the_expected_state_are_marked(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 4).await;
    let record = attempted(tasks[0], to, &event("a", "0"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    let due = at(NOW + 1);
    let record = attempted(tasks[1], to, &event("a", "1"), NextStep::Retry { due });
    fixture.record(vec![record]).await;
    let early = AttemptTask {
        attempt: 3,
        ..tasks[1]
    };
    let of_another_run = AttemptTask {
        generation: 1,
        ..tasks[2]
    };
    let not_due = [tasks[0], tasks[1], early, of_another_run];
    assert_eq!(mark(&fixture, &not_due).await, 0);
    assert_eq!(search(&fixture, to, None, 9).await, []);
    assert_eq!(mark(&fixture, &tasks[3..]).await, 1);
    let found = fixture
        .store
        .due_deliveries(vec![tasks[3].delivery])
        .await
        .unwrap();
    let found = &found[&tasks[3].delivery];
    assert_eq!(found.backlog, Some(BacklogClass::Live));
    assert_eq!(found.state, DeliveryState::Pending { due: at(NOW - 1) });
}

async fn a_read_continues_after_a_position_in_the_order_of_due(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 10).await;
    mark(&fixture, &tasks).await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = search(&fixture, to, after, 3).await;
        let Some((last, due)) = page.last().copied() else {
            break;
        };
        after = Some(BacklogPosition {
            due,
            delivery: last.delivery,
        });
        found.extend(page.into_iter().map(|(task, _)| task));
    }
    assert_eq!(found, tasks);
}

async fn reads_of_many_backlogs_are_one_query(fixture: Fixture) {
    let mut reads = Vec::new();
    let mut expected = Vec::new();
    for owner in ["a", "b", "c"] {
        let to = fixture.subscribe(owner).await.id;
        let tasks = tasks(&fixture, owner, 3).await;
        mark(&fixture, &tasks).await;
        expected.extend(tasks[..2].iter().map(|one| one.delivery));
        reads.push(BacklogRead {
            partition: partitions(&fixture).await.of(to),
            subscription: to,
            class: BacklogClass::Live,
            after: None,
            limit: 2,
        });
    }
    let found = fixture.store.read_backlog(reads, now()).await.unwrap();
    let mut found: Vec<_> = found.iter().map(|row| row.task.delivery).collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    let nothing = fixture.store.read_backlog(Vec::new(), now()).await.unwrap();
    assert_eq!(nothing, []);
}

async fn a_list_has_each_subscription_with_backlog_once(fixture: Fixture) {
    let mut expected = Vec::new();
    for number in 0..5 {
        let owner = format!("o{number}");
        let to = fixture.subscribe(&owner).await.id;
        let tasks = tasks(&fixture, &owner, 3).await;
        if number % 2 == 0 {
            mark(&fixture, &tasks).await;
            expected.push(BacklogSubscription {
                partition: partitions(&fixture).await.of(to),
                subscription: to,
                class: BacklogClass::Live,
            });
        }
    }
    expected.sort_unstable();
    let listed = fixture.store.list_backlog(None).await.unwrap();
    assert_eq!(listed, expected);
    let behind = fixture.store.list_backlog(Some(expected[0])).await.unwrap();
    assert_eq!(behind, expected[1..]);
    let last = expected.last().copied();
    assert_eq!(fixture.store.list_backlog(last).await.unwrap(), []);
}

async fn backlog_moves_to_its_partition_after_a_change_of_the_number(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 3).await;
    mark(&fixture, &tasks).await;
    let count = partitions(&fixture).await.count();
    let fewer = Partitions::new(if count == 1 { 7 } else { 1 }).unwrap();
    fixture.store.resize_partitions(fewer).await.unwrap();
    let mut moved = fixture.store.refile(10).await.unwrap();
    for listed in fixture.store.list_backlog(None).await.unwrap() {
        if listed.partition != fewer.of(to) {
            moved += fixture.store.repartition_backlog(listed).await.unwrap();
        }
    }
    let stays = usize::from(count == 1 && fewer.of(to).0 == 0);
    assert_eq!(moved, 3 * (1 - stays));
    assert_eq!(search(&fixture, to, None, 9).await.len(), 3);
    assert_eq!(fixture.store.refile(10).await.unwrap(), 0);
}

async fn a_pending_delivery_shows_the_reason_for_its_wait(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    let first = fixture.task("a", "1").await;
    let organization = crate::fixture::organization("a");
    let waiting = async || {
        let page = fixture
            .store
            .delivery(organization.clone(), first.delivery, 1, None)
            .await
            .unwrap()
            .unwrap();
        page.delivery.waiting_for
    };
    assert_eq!(waiting().await, None);
    mark(&fixture, &[first]).await;
    assert_eq!(waiting().await, Some(WaitingFor::Concurrency));
    let open = BreakerChange {
        subscription: to,
        wait: Some(Duration::from_secs(4)),
    };
    fixture
        .store
        .write_breakers(vec![open], now())
        .await
        .unwrap();
    assert_eq!(waiting().await, Some(WaitingFor::Breaker));
    let due = hookline_clock::now().after(Duration::from_secs(60));
    let record = attempted(first, to, &event("a", "1"), NextStep::Retry { due });
    fixture.record(vec![record]).await;
    assert_eq!(waiting().await, Some(WaitingFor::Retry));
    let second = AttemptTask {
        attempt: 2,
        ..first
    };
    let record = attempted(second, to, &event("a", "1"), NextStep::Delivered);
    fixture.record(vec![record]).await;
    assert_eq!(waiting().await, None);
}

async fn circuit_breakers_are_kept_until_they_close_or_their_subscription_is_deleted(
    fixture: Fixture,
) {
    let deleted = fixture.subscribe("a").await.id;
    let other = fixture.subscribe("b").await.id;
    let change = |subscription, wait: Option<u64>| BreakerChange {
        subscription,
        wait: wait.map(Duration::from_secs),
    };
    let write = async |changes| fixture.store.write_breakers(changes, now()).await.unwrap();
    let breakers = async || {
        let mut found = fixture.store.breakers().await.unwrap();
        found.sort_unstable_by_key(|one| one.subscription);
        found
    };
    write(vec![change(other, Some(1)), change(deleted, Some(1))]).await;
    write(vec![change(other, Some(2))]).await;
    assert_eq!(
        breakers().await,
        [change(deleted, Some(1)), change(other, Some(2))]
    );
    let delete =
        fixture
            .store
            .delete_subscription(crate::fixture::organization("a"), deleted, now());
    assert!(delete.await.unwrap());
    assert_eq!(breakers().await, [change(other, Some(2))]);
    write(vec![change(other, None)]).await;
    assert_eq!(breakers().await, []);
}

#[tokio::test]
async fn rows_that_another_session_has_locked_are_skipped() {
    let fixture = Fixture::postgres().await;
    let to = fixture.subscribe("a").await.id;
    let tasks = tasks(&fixture, "a", 2).await;
    let lock = format!(
        "BEGIN; SELECT id FROM deliveries WHERE id = '{}' FOR UPDATE; SELECT pg_sleep(30)",
        tasks[0].delivery.0
    );
    let mut session = std::process::Command::new("psql")
        .args([fixture.url(), "-Xqc", &lock])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND wait_event = 'PgSleep'
                  AND datname = current_database()";
    while fixture.number(sleeps) == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let marked = fixture.store.mark_backlog(tasks.clone(), now()).await;
    assert_eq!(marked.unwrap(), [tasks[1].delivery].into());
    fixture.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE query LIKE '%pg_sleep(30)%' AND wait_event = 'PgSleep' AND datname = current_database()",
    );
    session.wait().unwrap();
    assert_eq!(mark(&fixture, &tasks).await, 2);
    assert_eq!(search(&fixture, to, None, 9).await.len(), 2);
}
