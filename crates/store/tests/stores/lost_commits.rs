//! A database that lost its last commits: a replica that lagged was promoted, or a backup restored.

use hookline_core::ids::SubscriptionId;

use crate::fixture::{Fixture, event, on_both};

on_both![
    a_version_that_went_back_loses_no_subscription,
    a_version_that_was_issued_again_loses_no_subscription,
    versions_that_went_back_and_passed_the_known_one_lose_no_subscription,
    an_index_that_is_far_behind_loads_everything,
];

/// Restores the database to its state without the commits that created these subscriptions.
fn lose(fixture: &Fixture, made: &[SubscriptionId]) {
    let ids: Vec<String> = made.iter().map(|id| id.0.to_string()).collect();
    fixture.sql(&format!(
        "DELETE FROM subscriptions WHERE id IN ({});
         UPDATE subscription_version SET value = (SELECT coalesce(max(version), 0) FROM subscriptions);
         DELETE FROM subscription_marks WHERE version > (SELECT value FROM subscription_version)",
        ids.join(", ")
    ));
}

/// Subscriptions of one organization.
async fn subscribe(fixture: &Fixture, count: usize) -> Vec<SubscriptionId> {
    let mut made = Vec::new();
    for _ in 0..count {
        made.push(fixture.subscribe("a").await.id);
    }
    made
}

/// The subscriptions that get a new event.
async fn receivers_of(fixture: &Fixture, id: &str) -> Vec<SubscriptionId> {
    let given = fixture.intake(vec![event("a", id)]).await;
    let mut receivers: Vec<SubscriptionId> =
        given.tasks.iter().map(|task| task.subscription).collect();
    receivers.sort_unstable_by_key(|id| id.0);
    receivers
}

async fn a_version_that_went_back_loses_no_subscription(fixture: Fixture) {
    let made = subscribe(&fixture, 3).await;
    assert_eq!(receivers_of(&fixture, "1").await, made);
    lose(&fixture, &made[1..]);
    assert_eq!(receivers_of(&fixture, "2").await, made[..1]);
}

async fn a_version_that_was_issued_again_loses_no_subscription(fixture: Fixture) {
    let mut made = subscribe(&fixture, 3).await;
    assert_eq!(receivers_of(&fixture, "1").await, made);
    lose(&fixture, &made.split_off(1));
    made.extend(subscribe(&fixture, 2).await);
    assert_eq!(receivers_of(&fixture, "2").await, made);
}

async fn versions_that_went_back_and_passed_the_known_one_lose_no_subscription(fixture: Fixture) {
    let mut made = subscribe(&fixture, 3).await;
    assert_eq!(receivers_of(&fixture, "1").await, made);
    lose(&fixture, &made.split_off(1));
    made.extend(subscribe(&fixture, 5).await);
    assert_eq!(receivers_of(&fixture, "2").await, made);
    assert_eq!(
        receivers_of(&fixture, "3").await,
        made,
        "and goes on from there"
    );
    made.extend(subscribe(&fixture, 1).await);
    assert_eq!(receivers_of(&fixture, "4").await, made);
}

async fn an_index_that_is_far_behind_loads_everything(fixture: Fixture) {
    let mut made = subscribe(&fixture, 1).await;
    assert_eq!(receivers_of(&fixture, "1").await, made);
    made.extend(subscribe(&fixture, 2).await);
    fixture.sql("DELETE FROM subscription_marks WHERE version < 3");
    assert_eq!(receivers_of(&fixture, "2").await, made);
}
