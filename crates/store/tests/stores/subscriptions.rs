use hookline_core::ids::{EventId, SubscriptionId};
use hookline_core::subscription::{NewSubscription, SubscriptionPatch, SubscriptionStatus};
use hookline_core::target::TargetRules;
use hookline_store::{CreateResult, EventSubscriptionsPage, SubscriptionWindow};
use serde_json::json;

use crate::fixture::{Fixture, NOW, at, event, now, on_both, organization};

on_both![
    an_id_is_never_used_again,
    a_limit_holds_for_simultaneous_creations,
    the_count_follows_every_change_and_each_page_starts_after_the_last_one,
    an_empty_patch_changes_nothing_and_null_removes_the_secret,
    a_deleted_subscription_loses_its_url_and_after_the_retention_its_name,
];

async fn an_id_is_never_used_again(fixture: Fixture) {
    let first = fixture.subscribe("a").await.id;
    assert!(
        fixture
            .store
            .delete_subscription(organization("a"), first, now())
            .await
            .unwrap()
    );
    assert!(
        !fixture
            .store
            .delete_subscription(organization("a"), first, now())
            .await
            .unwrap()
    );
    let second = fixture.subscribe("a").await.id;
    assert!(second > first);
    assert_eq!(
        fixture
            .store
            .subscription(organization("a"), first)
            .await
            .unwrap(),
        None
    );
}

async fn a_limit_holds_for_simultaneous_creations(fixture: Fixture) {
    let body = json!({"name": "n", "url": "https://example.com", "events": ["workflow.failed"]});
    let new = NewSubscription::from_json(body, &TargetRules::default()).unwrap();
    let mut creating = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let (store, new) = (fixture.store.clone(), new.clone());
        creating.spawn(async move {
            store
                .create_subscription(organization("a"), new, 5, now())
                .await
        });
    }
    let created = creating.join_all().await;
    let made = created
        .iter()
        .filter(|made| matches!(made, Ok(CreateResult::Subscription(_))))
        .count();
    assert_eq!(made, 5);
    let window = SubscriptionWindow {
        limit: 2,
        offset: 1,
        before: None,
    };
    let listed = fixture.store.subscriptions(organization("a"), window);
    let listed = listed.await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed[0].id > listed[1].id);
    let count = fixture.store.subscription_count(organization("a"));
    assert_eq!(count.await.unwrap(), 5);
}

async fn the_count_follows_every_change_and_each_page_starts_after_the_last_one(fixture: Fixture) {
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(fixture.subscribe("a").await.id);
    }
    fixture.subscribe("b").await;
    let store = &fixture.store;
    let off = SubscriptionPatch {
        status: Some(SubscriptionStatus::Inactive(None)),
        ..Default::default()
    };
    let changed = store.change_subscription(organization("a"), ids[0], off, now());
    assert!(changed.await.unwrap().is_some());
    for _ in 0..2 {
        let deleted = store.delete_subscription(organization("a"), ids[3], now());
        deleted.await.unwrap();
    }
    for (owner, count) in [("a", 6), ("b", 1), ("c", 0)] {
        let counted = store.subscription_count(organization(owner)).await;
        assert_eq!(counted.unwrap(), count, "{owner}");
    }
    ids.remove(3);
    ids.reverse();
    let (mut seen, mut before) = (Vec::new(), None);
    loop {
        let window = SubscriptionWindow {
            limit: 4,
            offset: 0,
            before,
        };
        let page = store
            .subscriptions(organization("a"), window)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        seen.extend(page.iter().map(|one| one.id));
    }
    assert_eq!(seen, ids);
}

async fn a_deleted_subscription_loses_its_url_and_after_the_retention_its_name(fixture: Fixture) {
    let store = &fixture.store;
    let (kept, deleted) = (
        fixture.subscribe("a").await.id,
        fixture.subscribe("a").await.id,
    );
    fixture.intake(vec![event("a", "1")]).await;
    assert!(
        store
            .delete_subscription(organization("a"), deleted, now())
            .await
            .unwrap()
    );
    // Each row is looked at by a constraint that all have to meet.
    let expect = |id: SubscriptionId, condition: &str| {
        fixture.sql(&format!(
            "CREATE TABLE met (is_met INTEGER CHECK (is_met = 1));
             INSERT INTO met SELECT count(*) FROM subscriptions WHERE id = {} AND {condition};
             DROP TABLE met",
            id.0
        ));
    };
    expect(
        deleted,
        "name = 'n' AND url = '' AND secret IS NULL AND length(headers) = 0 AND header_names = '[]'",
    );
    let page = EventSubscriptionsPage {
        limit: 10,
        after: None,
    };
    let details = store.event(organization("a"), EventId::parse("1").unwrap(), page);
    let details = details.await.unwrap().unwrap();
    assert_eq!(details.subscriptions[1].name.as_str(), "n");

    assert_eq!(store.forget_deleted_subscriptions(now()).await.unwrap(), 0);
    for count in [1, 0] {
        let forgotten = store.forget_deleted_subscriptions(at(NOW + 1)).await;
        assert_eq!(forgotten.unwrap(), count);
    }
    expect(deleted, "name = '' AND url = ''");
    expect(kept, "name = 'n' AND url LIKE 'https://example.com%'");
}

async fn an_empty_patch_changes_nothing_and_null_removes_the_secret(fixture: Fixture) {
    let subscription = fixture.subscribe("a").await;
    let later = at(NOW + 1);
    let change = async |body| {
        let patch = SubscriptionPatch::from_json(body, &TargetRules::default()).unwrap();
        fixture
            .store
            .change_subscription(organization("a"), subscription.id, patch, later)
            .await
            .unwrap()
            .unwrap()
    };
    assert_eq!(change(json!({})).await, subscription);
    let changed = change(json!({"secret": null})).await;
    assert_eq!((changed.has_secret, changed.updated_at), (false, later));
    assert_eq!(
        fixture
            .store
            .subscription(organization("b"), subscription.id)
            .await
            .unwrap(),
        None,
        "another organization's"
    );
}
