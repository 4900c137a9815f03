use std::time::Duration;

use hookline_core::delivery::{AttemptTask, DeliveryKind, DeliveryState, ExhaustedReason};
use hookline_core::ids::SubscriptionId;
use hookline_core::subscription::{DisabledReason, SubscriptionPatch, SubscriptionStatus};
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;
use hookline_store::{AttemptRecord, NextStep};

use crate::fixture::{Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![
    a_subscription_with_long_failures_and_an_exhausted_delivery_is_switched_off,
    the_clock_starts_with_the_first_failure_and_not_with_the_last_success,
    a_success_stops_the_clock_and_a_later_failure_starts_it_again,
    without_an_exhausted_delivery_nothing_is_switched_off,
    a_failed_test_does_not_count_and_a_successful_one_does,
    switching_on_and_another_url_each_start_the_clock_anew,
    the_clock_goes_on_when_the_log_is_forgotten,
    dispatchers_that_look_at_once_switch_off_once,
    a_batch_of_many_gone_receivers_writes_one_event_for_each_subscription,
    what_was_told_is_told_no_more,
    a_410_of_the_url_before_does_not_switch_the_new_one_off,
    a_410_of_an_earlier_activation_does_not_switch_a_later_one_off,
    failures_of_the_url_before_or_of_an_earlier_activation_start_no_clock,
    failures_of_an_earlier_url_do_not_count_even_if_clocks_disagree,
];

const HOUR: i64 = 3_600_000_000;
const LIMIT: Duration = Duration::from_secs(72 * 60 * 60);
const EXHAUSTED: NextStep = NextStep::Exhausted(ExhaustedReason::OutOfAttempts);

fn hours(hours: i64) -> Timestamp {
    at(NOW + hours * HOUR)
}

/// One subscription of organization `a`.
struct One {
    fixture: Fixture,
    id: SubscriptionId,
}

impl One {
    async fn of(fixture: Fixture) -> Self {
        let id = fixture.subscribe("a").await.id;
        Self { fixture, id }
    }

    /// An attempt with the subscription as it is now.
    async fn made(
        &self,
        task: AttemptTask,
        name: &str,
        next_step: NextStep,
        hour: i64,
    ) -> AttemptRecord {
        let id = task.delivery;
        let found = self.fixture.store.due_deliveries(vec![id]).await;
        let now = found.unwrap().remove(&id).unwrap();
        AttemptRecord {
            started: hours(hour),
            url: now.url,
            activation: now.activation,
            ..attempted(task, self.id, &event("a", name), next_step)
        }
    }

    /// A new event. Its only attempt ends like this, so many hours from now.
    async fn attempt(&self, next_step: NextStep, hour: i64) {
        let name = format!("{next_step:?} {hour}");
        let task = self.fixture.task("a", &name).await;
        let record = self.made(task, &name, next_step, hour).await;
        assert_eq!(self.fixture.record(vec![record]).await.len(), 1);
    }

    async fn test(&self, next_step: NextStep, hour: i64) {
        let store = &self.fixture.store;
        let name = format!("test {hour}");
        let task = store
            .create_test(self.id, event("a", &name), hours(hour))
            .await
            .unwrap();
        let record = AttemptRecord {
            kind: DeliveryKind::Test,
            ..self.made(task.unwrap(), &name, next_step, hour).await
        };
        assert_eq!(self.fixture.record(vec![record]).await.len(), 1);
    }

    async fn look(&self, hour: i64) -> SubscriptionStatus {
        let store = &self.fixture.store;
        while store.disable_failing(LIMIT, hours(hour)).await.unwrap() > 0 {}
        let found = store.subscription(organization("a"), self.id).await;
        found.unwrap().unwrap().status
    }

    async fn change(&self, patch: SubscriptionPatch, hour: i64) {
        self.fixture
            .store
            .change_subscription(organization("a"), self.id, patch, hours(hour))
            .await
            .unwrap();
    }

    async fn switch_on(&self, hour: i64) {
        self.switch(SubscriptionStatus::Active, hour).await;
    }

    async fn switch(&self, status: SubscriptionStatus, hour: i64) {
        let patch = SubscriptionPatch {
            status: Some(status),
            ..Default::default()
        };
        self.change(patch, hour).await;
    }

    async fn move_to(&self, url: &str, hour: i64) {
        let patch = SubscriptionPatch {
            url: Some(TargetUrl::from_store(url)),
            ..Default::default()
        };
        self.change(patch, hour).await;
    }
}

const GONE: NextStep = NextStep::Exhausted(ExhaustedReason::Gone);
const OTHER: &str = "https://other.example.com";

const FAILING: SubscriptionStatus = SubscriptionStatus::Inactive(Some(DisabledReason::Failing));

async fn a_subscription_with_long_failures_and_an_exhausted_delivery_is_switched_off(
    fixture: Fixture,
) {
    let one = One::of(fixture).await;
    let pending = one.fixture.task("a", "pending").await;
    one.attempt(NextStep::Retry { due: hours(9) }, 1).await;
    one.attempt(EXHAUSTED, 40).await;
    assert_eq!(one.look(72).await, SubscriptionStatus::Active);
    assert_eq!(one.look(73).await, FAILING);
    let operational_events = one
        .fixture
        .store
        .unpublished_operational_events()
        .await
        .unwrap();
    let [event] = &operational_events[..] else {
        panic!("{operational_events:?}")
    };
    assert_eq!(event.reason, DisabledReason::Failing);
    assert_eq!((event.subscription, event.at), (one.id, hours(73)));
    // Its waiting deliveries are void, and a new event owes it no delivery.
    let found = one
        .fixture
        .store
        .due_deliveries(vec![pending.delivery])
        .await;
    let eligibility = found.unwrap()[&pending.delivery].eligibility;
    assert_eq!(eligibility, hookline_store::Eligibility::Inactive);
    let given = one.fixture.intake(vec![crate::fixture::event("a", "new")]);
    assert!(given.await.tasks.is_empty());
}

async fn the_clock_starts_with_the_first_failure_and_not_with_the_last_success(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(NextStep::Delivered, 0).await;
    one.attempt(EXHAUSTED, 200).await;
    assert_eq!(one.look(271).await, SubscriptionStatus::Active);
    assert_eq!(one.look(272).await, FAILING);
}

async fn a_success_stops_the_clock_and_a_later_failure_starts_it_again(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(EXHAUSTED, 1).await;
    one.attempt(NextStep::Delivered, 50).await;
    one.attempt(NextStep::Retry { due: hours(60) }, 51).await;
    // The exhausted one was before the success.
    assert_eq!(one.look(200).await, SubscriptionStatus::Active);
    one.attempt(EXHAUSTED, 60).await;
    assert_eq!(one.look(122).await, SubscriptionStatus::Active);
    assert_eq!(one.look(123).await, FAILING);
}

async fn without_an_exhausted_delivery_nothing_is_switched_off(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(NextStep::Retry { due: hours(9) }, 1).await;
    one.attempt(NextStep::Retry { due: hours(99) }, 90).await;
    assert_eq!(one.look(500).await, SubscriptionStatus::Active);
    assert!(
        one.fixture
            .store
            .unpublished_operational_events()
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_failed_test_does_not_count_and_a_successful_one_does(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.test(EXHAUSTED, 1).await;
    assert_eq!(one.look(100).await, SubscriptionStatus::Active);
    one.attempt(EXHAUSTED, 100).await;
    assert_eq!(one.look(171).await, SubscriptionStatus::Active);
    one.test(NextStep::Delivered, 171).await;
    assert_eq!(one.look(172).await, SubscriptionStatus::Active);
    one.attempt(EXHAUSTED, 173).await;
    assert_eq!(one.look(245).await, FAILING);
}

async fn switching_on_and_another_url_each_start_the_clock_anew(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(EXHAUSTED, 0).await;
    assert_eq!(one.look(72).await, FAILING);
    one.switch_on(80).await;
    assert_eq!(one.look(300).await, SubscriptionStatus::Active);
    one.attempt(EXHAUSTED, 300).await;
    one.move_to(OTHER, 371).await;
    assert_eq!(one.look(380).await, SubscriptionStatus::Active);
    one.attempt(EXHAUSTED, 381).await;
    // Saying again that it is on is no change, and neither is another name.
    one.switch_on(400).await;
    assert_eq!(one.look(453).await, FAILING);
    let operational_events = one
        .fixture
        .store
        .unpublished_operational_events()
        .await
        .unwrap();
    assert_eq!(operational_events.len(), 2);
    assert_ne!(operational_events[0].id, operational_events[1].id);
}

async fn the_clock_goes_on_when_the_log_is_forgotten(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(EXHAUSTED, 0).await;
    let store = &one.fixture.store;
    while store.forget_attempts(hours(48).unix_day()).await.unwrap() > 0 {}
    one.attempt(EXHAUSTED, 60).await;
    assert_eq!(one.look(71).await, SubscriptionStatus::Active);
    assert_eq!(one.look(72).await, FAILING);
}

async fn dispatchers_that_look_at_once_switch_off_once(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(EXHAUSTED, 0).await;
    let mut dispatchers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let store = one.fixture.store.clone();
        dispatchers.spawn(async move { store.disable_failing(LIMIT, hours(72)).await.unwrap() });
    }
    dispatchers.join_all().await;
    assert_eq!(one.look(72).await, FAILING);
    assert_eq!(
        one.fixture
            .store
            .unpublished_operational_events()
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn a_batch_of_many_gone_receivers_writes_one_event_for_each_subscription(fixture: Fixture) {
    let (first, second) = (fixture.subscribe("a").await, fixture.subscribe("a").await);
    let events: Vec<_> = (0..20).map(|id| event("a", &id.to_string())).collect();
    let given = fixture.intake(events).await;
    assert_eq!(given.tasks.len(), 40);
    let gone = |task: AttemptTask| {
        let carried = event("a", "whichever");
        let next_step = NextStep::Exhausted(ExhaustedReason::Gone);
        attempted(task, task.subscription, &carried, next_step)
    };
    fixture
        .record(given.tasks.into_iter().map(gone).collect())
        .await;
    let operational_events = fixture
        .store
        .unpublished_operational_events()
        .await
        .unwrap();
    let mut of: Vec<_> = operational_events
        .iter()
        .map(|event| event.subscription)
        .collect();
    of.sort_unstable();
    assert_eq!(of, [first.id, second.id]);
    assert!(
        operational_events
            .iter()
            .all(|event| event.reason == DisabledReason::Gone)
    );
    assert_eq!(
        (
            operational_events[0].name.as_str(),
            operational_events[0].organization.as_str()
        ),
        ("n", "a")
    );
}

async fn what_was_told_is_told_no_more(fixture: Fixture) {
    let one = One::of(fixture).await;
    one.attempt(NextStep::Exhausted(ExhaustedReason::Gone), 0)
        .await;
    let store = &one.fixture.store;
    let operational_events = store.unpublished_operational_events().await.unwrap();
    assert_eq!(
        operational_events,
        store.unpublished_operational_events().await.unwrap(),
        "again until it was told"
    );
    store
        .mark_published(vec![operational_events[0].id])
        .await
        .unwrap();
    assert!(
        store
            .unpublished_operational_events()
            .await
            .unwrap()
            .is_empty()
    );
    assert!(operational_events[0].at >= now());
}

async fn a_410_of_the_url_before_does_not_switch_the_new_one_off(fixture: Fixture) {
    let one = One::of(fixture).await;
    let task = one.fixture.task("a", "under way").await;
    let late = one.made(task, "under way", GONE, 1).await;
    one.move_to(OTHER, 2).await;
    // In one batch with what the new URL says.
    let task = one.fixture.task("a", "new").await;
    let good = one.made(task, "new", NextStep::Delivered, 3).await;
    assert_eq!(one.fixture.record(vec![late.clone(), good]).await.len(), 2);
    assert_eq!(one.look(4).await, SubscriptionStatus::Active);
    let ended = one
        .fixture
        .store
        .due_deliveries(vec![late.task.delivery])
        .await;
    let state = ended.unwrap()[&late.task.delivery].state;
    assert!(
        matches!(
            state,
            DeliveryState::Exhausted {
                reason: ExhaustedReason::Gone,
                ..
            }
        ),
        "{state:?}"
    );
    assert!(
        one.fixture
            .store
            .unpublished_operational_events()
            .await
            .unwrap()
            .is_empty()
    );
    one.attempt(GONE, 5).await;
    assert_eq!(
        one.look(5).await,
        SubscriptionStatus::Inactive(Some(DisabledReason::Gone))
    );
}

async fn a_410_of_an_earlier_activation_does_not_switch_a_later_one_off(fixture: Fixture) {
    let one = One::of(fixture).await;
    let task = one.fixture.task("a", "under way").await;
    let late = one.made(task, "under way", GONE, 1).await;
    one.switch(SubscriptionStatus::Inactive(None), 2).await;
    one.switch_on(3).await;
    assert_eq!(one.fixture.record(vec![late]).await.len(), 1);
    assert_eq!(one.look(4).await, SubscriptionStatus::Active);
    assert!(
        one.fixture
            .store
            .unpublished_operational_events()
            .await
            .unwrap()
            .is_empty()
    );
}

async fn failures_of_the_url_before_or_of_an_earlier_activation_start_no_clock(fixture: Fixture) {
    let one = One::of(fixture).await;
    let mut late = Vec::new();
    for name in ["first", "second", "third"] {
        let task = one.fixture.task("a", name).await;
        // The clock of the dispatcher is ahead.
        late.push(one.made(task, name, EXHAUSTED, 9).await);
    }
    one.move_to(OTHER, 1).await;
    one.fixture.record(vec![late.remove(0)]).await;
    assert_eq!(one.look(200).await, SubscriptionStatus::Active);
    // Back at the URL that failed, in another activation.
    one.switch(SubscriptionStatus::Inactive(None), 201).await;
    one.move_to("https://example.com", 202).await;
    one.switch_on(203).await;
    late[0].started = hours(210);
    one.fixture.record(vec![late.remove(0)]).await;
    assert_eq!(one.look(400).await, SubscriptionStatus::Active);
    // An exhausted delivery of the new URL counts from its own first failure.
    one.move_to(OTHER, 401).await;
    late[0].started = hours(410);
    one.fixture.record(vec![late.remove(0)]).await;
    one.attempt(EXHAUSTED, 450).await;
    assert_eq!(one.look(521).await, SubscriptionStatus::Active);
    assert_eq!(one.look(522).await, FAILING);
}

async fn failures_of_an_earlier_url_do_not_count_even_if_clocks_disagree(fixture: Fixture) {
    let one = One::of(fixture).await;
    // The recording dispatcher's clock is ahead of the API's.
    one.attempt(EXHAUSTED, 10).await;
    one.move_to(OTHER, 1).await;
    assert_eq!(one.look(200).await, SubscriptionStatus::Active);
}
