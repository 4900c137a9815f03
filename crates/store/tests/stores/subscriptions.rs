use hookline_core::subscription::{NewSubscription, SubscriptionPatch};
use hookline_core::target::TargetRules;
use hookline_store::{Created, Window};
use serde_json::json;

use crate::fixture::{Fixture, NOW, at, now, on_both, organization};

on_both![
    an_id_is_never_used_again,
    a_limit_holds_when_many_create_at_once,
    an_empty_patch_changes_nothing_and_null_removes_the_secret,
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

async fn a_limit_holds_when_many_create_at_once(fixture: Fixture) {
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
        .filter(|made| matches!(made, Ok(Created::Subscription(_))))
        .count();
    assert_eq!(made, 5);
    let window = Window {
        limit: Some(2),
        offset: 1,
    };
    let listing = fixture
        .store
        .subscriptions(organization("a"), window)
        .await
        .unwrap();
    assert_eq!((listing.total, listing.rows.len()), (5, 2));
    assert!(listing.rows[0].id > listing.rows[1].id);
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
