use hookline_core::delivery::AttemptTask;
use hookline_core::headers::CustomHeaders;
use hookline_core::subscription::{NewSubscription, Subscription, SubscriptionPatch};
use hookline_core::target::TargetRules;
use hookline_store::{CreateResult, Credentials, DecryptError, Store, StoreError, UnlockError};
use serde_json::{Value, json};

use crate::fixture::{Fixture, event, keys, now, on_both, organization};

on_both![
    the_signer_gets_the_original_values_and_lists_show_only_header_names,
    a_change_of_another_field_leaves_sealed_values_as_they_are,
    a_value_copied_to_another_row_does_not_decrypt_and_affects_only_that_row,
    wrong_and_missing_keys_do_not_unlock_and_store_no_proof,
    a_locked_store_does_what_needs_no_key,
    a_rekey_lets_go_of_the_old_key,
    a_rekey_keeps_simultaneous_changes,
    a_key_with_sealed_values_keeps_its_proof,
];

async fn create(store: &Store, body: Value) -> Result<Subscription, StoreError> {
    let mut whole =
        json!({"name": "n", "url": "https://example.com", "events": ["workflow.failed"]});
    whole
        .as_object_mut()
        .unwrap()
        .extend(body.as_object().unwrap().clone());
    let new = NewSubscription::from_json(whole, &TargetRules::default(), [7; 32]).unwrap();
    match store
        .create_subscription(organization("a"), new, 1_000, now())
        .await?
    {
        CreateResult::Subscription(subscription) => Ok(subscription),
        CreateResult::LimitReached => panic!("the limit is reached"),
    }
}

async fn change(store: &Store, subscription: &Subscription, body: Value) -> Subscription {
    let patch = SubscriptionPatch::from_json(body, &TargetRules::default()).unwrap();
    store
        .change_subscription(organization("a"), subscription.id, patch, now())
        .await
        .unwrap()
        .unwrap()
}

/// The credentials of a request to a subscription.
async fn opened(
    fixture: &Fixture,
    store: &Store,
    subscription: &Subscription,
) -> Result<Credentials, DecryptError> {
    let id = uuid::Uuid::new_v4().to_string();
    let given = fixture.intake(vec![event("a", &id)]).await;
    let ours = |task: &&AttemptTask| task.subscription == subscription.id;
    let delivery = given.tasks.iter().find(ours).unwrap().delivery;
    let loaded = store.due_deliveries(vec![delivery]).await.unwrap();
    store.open(&loaded[&delivery].sealed)
}

fn plaintext(credentials: Credentials) -> (Option<String>, Vec<(String, String)>) {
    let secret = credentials.secrets.map(|secrets| secrets.current);
    let headers: &CustomHeaders = &credentials.headers;
    let headers = headers.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
    (
        secret.map(|secret| secret.expose().to_owned()),
        headers.collect(),
    )
}

async fn the_signer_gets_the_original_values_and_lists_show_only_header_names(fixture: Fixture) {
    let given = json!({"secret": "hush", "headers": {"X-A": "1", "X-B": "2"}});
    let one = create(&fixture.store, given).await.unwrap();
    assert_eq!((one.has_secret, one.header_names.len()), (true, 2));
    let (secret, headers) = plaintext(opened(&fixture, &fixture.store, &one).await.unwrap());
    assert_eq!(secret.as_deref(), Some("hush"));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(headers, [pair("X-A", "1"), pair("X-B", "2")]);

    let none = create(&fixture.store, json!({})).await.unwrap();
    assert_eq!((none.has_secret, none.header_names.len()), (false, 0));
    let nothing = opened(&fixture, &fixture.store, &none).await.unwrap();
    assert_eq!(nothing, Credentials::default());
}

async fn a_change_of_another_field_leaves_sealed_values_as_they_are(fixture: Fixture) {
    let store = &fixture.store;
    let given = json!({"secret": "hush", "headers": {"X-A": "1"}});
    let one = create(store, given).await.unwrap();
    let named = change(store, &one, json!({"name": "m"})).await;
    assert_eq!(
        (named.has_secret, named.header_names),
        (true, vec!["X-A".to_owned()])
    );
    let (secret, headers) = plaintext(opened(&fixture, store, &one).await.unwrap());
    assert_eq!((secret.as_deref(), headers.len()), (Some("hush"), 1));

    let bare = change(store, &one, json!({"headers": {}})).await;
    assert_eq!((bare.has_secret, bare.header_names.len()), (true, 0));
    let changed = change(store, &one, json!({"secret": "other"})).await;
    assert!(changed.has_secret);
    let (secret, headers) = plaintext(opened(&fixture, store, &one).await.unwrap());
    assert_eq!((secret.as_deref(), headers.len()), (Some("other"), 0));
}

async fn a_value_copied_to_another_row_does_not_decrypt_and_affects_only_that_row(
    fixture: Fixture,
) {
    let given = json!({"secret": "hush", "headers": {"X-A": "1"}});
    let source = create(&fixture.store, given.clone()).await.unwrap();
    let target = create(&fixture.store, given).await.unwrap();
    for column in ["secret", "headers"] {
        fixture.sql(&format!(
            "UPDATE subscriptions SET {column} = \
             (SELECT {column} FROM subscriptions WHERE id = {}) WHERE id = {}",
            source.id, target.id
        ));
        let broken = opened(&fixture, &fixture.store, &target).await;
        assert_eq!(broken, Err(DecryptError::Broken), "{column}");
        opened(&fixture, &fixture.store, &source).await.unwrap();
        change(&fixture.store, &target, json!({"secret": "anew"})).await;
    }
}

async fn wrong_and_missing_keys_do_not_unlock_and_store_no_proof(fixture: Fixture) {
    let store = &fixture.store;
    create(store, json!({"secret": "hush"})).await.unwrap();
    let missing = store.clone().unlock(&keys("b")).await.err();
    assert_eq!(missing, Some(UnlockError::Missing("a".to_owned())));
    let same_id = keys("b").primary().expose_text().replacen('b', "a", 1);
    let same_id = hookline_core::master_key::MasterKeys::parse(&same_id, None).unwrap();
    let wrong = store.clone().unlock(&same_id).await.err();
    assert_eq!(wrong, Some(UnlockError::Wrong("a".to_owned())));
    assert!(store.clone().unlock(&keys("a")).await.is_ok());
}

async fn a_locked_store_does_what_needs_no_key(fixture: Fixture) {
    let one = create(&fixture.store, json!({"secret": "hush"}))
        .await
        .unwrap();
    let locked = fixture.locked();
    assert!(create(&locked, json!({})).await.is_err());
    let why = opened(&fixture, &locked, &one).await.unwrap_err();
    assert!(matches!(why, DecryptError::UnknownKey(_)), "{why}");
    let found = locked.subscription(organization("a"), one.id).await;
    assert_eq!(found.unwrap(), Some(one));
}

async fn rekeyed(store: &Store) -> u64 {
    let mut after = None;
    loop {
        let step = store.reseal(after, 2).await.unwrap();
        assert_eq!(step.unopened, []);
        match step.last {
            Some(last) => after = Some(last),
            None => return store.forget_other_keys().await.unwrap(),
        }
    }
}

async fn a_rekey_lets_go_of_the_old_key(fixture: Fixture) {
    let given = json!({"secret": "hush", "headers": {"X-A": "1"}});
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(create(&fixture.store, given.clone()).await.unwrap());
    }
    create(&fixture.store, json!({})).await.unwrap();
    let both = fixture.store.clone().unlock(&keys("ba")).await.unwrap();
    assert_eq!(rekeyed(&both).await, 0);
    assert_eq!(both.reseal(None, 10).await.unwrap().last, None);

    let new = fixture.store.clone().unlock(&keys("b")).await.unwrap();
    for one in &all {
        let (secret, headers) = plaintext(opened(&fixture, &new, one).await.unwrap());
        assert_eq!((secret.as_deref(), headers.len()), (Some("hush"), 1));
    }
    let old = fixture.store.clone().unlock(&keys("a")).await.err();
    assert_eq!(old, Some(UnlockError::Missing("b".to_owned())));
}

async fn a_rekey_keeps_simultaneous_changes(fixture: Fixture) {
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(
            create(&fixture.store, json!({"secret": "hush"}))
                .await
                .unwrap(),
        );
    }
    let both = fixture.store.clone().unlock(&keys("ba")).await.unwrap();
    let changing = async {
        for one in &all {
            change(&both, one, json!({"secret": "anew"})).await;
        }
    };
    let (left, ()) = tokio::join!(rekeyed(&both), changing);
    assert_eq!(left, 0);
    for one in &all {
        let (secret, _) = plaintext(opened(&fixture, &both, one).await.unwrap());
        assert_eq!(secret.as_deref(), Some("anew"));
    }
}

async fn a_key_with_sealed_values_keeps_its_proof(fixture: Fixture) {
    create(&fixture.store, json!({"secret": "hush"}))
        .await
        .unwrap();
    let both = fixture.store.clone().unlock(&keys("ba")).await.unwrap();
    assert_eq!(both.forget_other_keys().await.unwrap(), 1);
    assert_eq!(rekeyed(&both).await, 0);
    // One that has not heard of the new key's place goes on with the old one: it shows.
    create(&fixture.store, json!({"headers": {"X-A": "1"}}))
        .await
        .unwrap();
    let new = fixture.store.clone().unlock(&keys("b")).await.err();
    assert_eq!(new, Some(UnlockError::Missing("a".to_owned())));
    assert_eq!(both.forget_other_keys().await.unwrap(), 1);
    assert_eq!(rekeyed(&both).await, 0);
}
