use hookline_core::ids::{EventId, SubscriptionId};
use hookline_core::subscription::{NewSubscription, SubscriptionPatch, SubscriptionStatus};
use hookline_core::target::TargetRules;
use hookline_store::{
    CreateResult, EventSubscriptionsPage, FanoutResult, SubscriptionFilter, SubscriptionWindow,
    Substring,
};
use serde_json::{Value, json};

use crate::fixture::{Fixture, NOW, at, event, now, on_both, organization};

on_both![
    an_id_is_never_used_again,
    a_limit_holds_for_simultaneous_creations,
    the_count_follows_every_change_and_each_page_starts_after_the_last_one,
    an_empty_patch_changes_nothing_and_null_removes_the_secret,
    a_deleted_subscription_loses_its_url_and_after_the_retention_its_name,
    a_wildcard_is_kept_as_written_and_selects_the_types_of_an_event,
    a_filter_finds_the_same_on_every_page,
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
    let new = NewSubscription::from_json(body, &TargetRules::default(), [7; 32]).unwrap();
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
    let filter = SubscriptionFilter::default();
    let listed = fixture
        .store
        .subscriptions(organization("a"), &filter, window);
    let listed = listed.await.unwrap().rows;
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
        let filter = SubscriptionFilter::default();
        let page = store.subscriptions(organization("a"), &filter, window);
        let page = page.await.unwrap().rows;
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
    let notes = json!({"description": "of a customer", "metadata": {"k": "v"}});
    let notes = SubscriptionPatch::from_json(notes, &TargetRules::default()).unwrap();
    let noted = store.change_subscription(organization("a"), deleted, notes, now());
    let noted = noted.await.unwrap().unwrap();
    assert_eq!(noted.metadata.iter().collect::<Vec<_>>(), [("k", "v")]);
    expect_erased_notes(&fixture, deleted, 0);
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
    expect_erased_notes(&fixture, deleted, 1);
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

fn expect_erased_notes(fixture: &Fixture, id: SubscriptionId, count: i64) {
    let erased = fixture.number(&format!(
        "SELECT count(*) FROM subscriptions \
         WHERE id = {} AND description = '' AND metadata = '{{}}'",
        id.0
    ));
    assert_eq!(erased, count);
}

async fn create(fixture: &Fixture, body: Value) -> SubscriptionId {
    let new = NewSubscription::from_json(body, &TargetRules::default(), [7; 32]).unwrap();
    let made = fixture
        .store
        .create_subscription(organization("a"), new, 10_000, now());
    match made.await.unwrap() {
        CreateResult::Subscription(subscription) => subscription.id,
        CreateResult::LimitReached => panic!("the limit is reached"),
    }
}

async fn a_wildcard_is_kept_as_written_and_selects_the_types_of_an_event(fixture: Fixture) {
    let mut ids = Vec::new();
    for events in [
        json!(["workflow.*"]),
        json!(["workflow.step.*", "workflow.started"]),
        json!(["*", "workflow.failed"]),
    ] {
        let body = json!({"name": "n", "url": "https://example.com", "events": events});
        let id = create(&fixture, body).await;
        let found = fixture.store.subscription(organization("a"), id).await;
        let kept = serde_json::to_value(found.unwrap().unwrap().events.iter().collect::<Vec<_>>());
        assert_eq!(kept.unwrap(), events);
        ids.push(id);
    }
    // The event is a `workflow.failed`.
    let made = fixture.intake(vec![event("a", "1")]).await;
    let mut got: Vec<_> = made.tasks.iter().map(|task| task.subscription).collect();
    got.sort();
    assert_eq!(got, [ids[0], ids[2]]);
    let page = EventSubscriptionsPage {
        limit: 10,
        after: None,
    };
    let details = fixture
        .store
        .event(organization("a"), EventId::parse("1").unwrap(), page);
    let outcomes = details.await.unwrap().unwrap().subscriptions;
    assert_eq!(outcomes[1].result, FanoutResult::Filtered);
    assert!(matches!(outcomes[2].result, FanoutResult::Delivery(_)));
}

async fn a_filter_finds_the_same_on_every_page(fixture: Fixture) {
    let mut odd = Vec::new();
    // More than one step of a search.
    for index in 0..1_030 {
        let name = if index % 500 == 0 { "ODD one" } else { "other" };
        let body = json!({"name": name, "url": "https://example.com", "events": ["*"]});
        let id = create(&fixture, body).await;
        if index % 500 == 0 {
            odd.insert(0, id);
        }
    }
    let filter = SubscriptionFilter {
        name: Some(Substring::new("odd")),
        ..SubscriptionFilter::default()
    };
    let page = async |limit, offset, before| {
        let window = SubscriptionWindow {
            limit,
            offset,
            before,
        };
        let found = fixture
            .store
            .subscriptions(organization("a"), &filter, window);
        let found = found.await.unwrap();
        let ids: Vec<_> = found.rows.iter().map(|row| row.id).collect();
        (ids, found.skipped, found.searched)
    };
    assert_eq!(page(10, 0, None).await, (odd.clone(), 0, None));
    assert_eq!(page(10, 2, None).await, (odd[2..].to_vec(), 2, None));
    assert_eq!(page(10, 9, None).await, (vec![], 3, None));
    assert_eq!(page(1, 1, None).await, (vec![odd[1]], 1, Some(odd[1])));
    assert_eq!(
        page(10, 0, Some(odd[0])).await,
        (odd[1..].to_vec(), 0, None)
    );
    let count = async |filter| {
        let count = fixture.store.count_subscriptions(organization("a"), filter);
        count.await.unwrap()
    };
    assert_eq!(count(&filter).await, Some(3));
    assert_eq!(count(&SubscriptionFilter::default()).await, Some(1_030));
}
