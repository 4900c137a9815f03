//! Idempotency keys: one answer for simultaneous requests and after the death of a process.

use std::time::Duration;

use hookline_core::subscription::NewSubscription;
use hookline_core::target::TargetRules;
use hookline_store::{
    AnswerOnce, ClaimResult, CreateResult, Creation, IdempotentRequest, RequestClaim, Store,
    StoreError,
};
use serde_json::json;

use crate::fixture::{DAY, Fixture, NOW, at, keys, now, on_both, organization};

on_both![
    of_many_simultaneous_claims_one_succeeds_and_the_others_wait,
    a_repeat_gets_the_answer_that_was_stored_with_the_result,
    a_claim_that_was_taken_over_writes_nothing,
    a_released_claim_is_free_for_another_body,
    an_answer_is_kept_for_a_day,
    an_answer_is_sealed_under_the_master_key,
    an_answer_of_an_earlier_version_is_read,
];

const SECOND: i64 = 1_000_000;

fn request(body: u8) -> IdempotentRequest {
    IdempotentRequest {
        id: [7; 32],
        fingerprint: [body; 32],
        claimed_until: at(NOW + 5 * SECOND),
    }
}

fn first(claimed: ClaimResult) -> RequestClaim {
    match claimed {
        ClaimResult::First(claim) => claim,
        other => panic!("not the first one: {other:?}"),
    }
}

async fn create(store: &Store, claim: RequestClaim) -> Result<CreateResult, StoreError> {
    let body = json!({"name": "n", "url": "https://example.com/", "events": ["workflow.failed"]});
    let new = NewSubscription::from_json(body, &TargetRules::default(), [7; 32]).unwrap();
    let making = Creation {
        now: now(),
        once: Some(AnswerOnce {
            claim,
            answer: Box::new(|_| Some("made".to_owned())),
        }),
    };
    store
        .create_subscription(organization("a"), new, 1_000, making)
        .await
}

async fn subscriptions(fixture: &Fixture) -> u64 {
    let count = fixture.store.subscription_count(organization("a"));
    count.await.unwrap()
}

async fn of_many_simultaneous_claims_one_succeeds_and_the_others_wait(fixture: Fixture) {
    let claims: Vec<_> = (0..8)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.claim(request(1), now()).await.unwrap() })
        })
        .collect();
    let mut firsts = 0;
    for claimed in claims {
        match claimed.await.unwrap() {
            ClaimResult::First(_) => firsts += 1,
            other => assert_eq!(other, ClaimResult::Running),
        }
    }
    assert_eq!(firsts, 1);
    let other = fixture.store.claim(request(2), now()).await.unwrap();
    assert_eq!(other, ClaimResult::OtherBody);
}

async fn a_repeat_gets_the_answer_that_was_stored_with_the_result(fixture: Fixture) {
    let store = &fixture.store;
    let claim = first(store.claim(request(1), now()).await.unwrap());
    create(store, claim).await.unwrap();
    let repeat = ClaimResult::Repeat("made".to_owned());
    for later in [0, 6 * SECOND] {
        let claimed = store.claim(request(1), at(NOW + later)).await.unwrap();
        assert_eq!(claimed, repeat);
    }
    store.give_back(claim).await.unwrap();
    assert_eq!(store.claim(request(1), now()).await.unwrap(), repeat);
    assert_eq!(subscriptions(&fixture).await, 1);
}

async fn a_claim_that_was_taken_over_writes_nothing(fixture: Fixture) {
    let store = &fixture.store;
    let late = first(store.claim(request(1), now()).await.unwrap());
    let next = IdempotentRequest {
        claimed_until: at(NOW + 11 * SECOND),
        ..request(1)
    };
    let then = at(NOW + 6 * SECOND);
    let claim = first(store.claim(next, then).await.unwrap());
    assert_eq!(create(store, late).await, Err(StoreError::Stale));
    assert_eq!(subscriptions(&fixture).await, 0);
    store.give_back(late).await.unwrap();
    assert_eq!(store.claim(next, then).await.unwrap(), ClaimResult::Running);
    create(store, claim).await.unwrap();
    assert_eq!(create(store, late).await, Err(StoreError::Stale));
    assert_eq!(subscriptions(&fixture).await, 1);
}

async fn a_released_claim_is_free_for_another_body(fixture: Fixture) {
    let store = &fixture.store;
    let claim = first(store.claim(request(1), now()).await.unwrap());
    store.give_back(claim).await.unwrap();
    first(store.claim(request(2), now()).await.unwrap());
}

async fn an_answer_is_kept_for_a_day(fixture: Fixture) {
    let store = &fixture.store;
    let claim = first(store.claim(request(1), now()).await.unwrap());
    create(store, claim).await.unwrap();
    let day = Duration::from_secs(24 * 60 * 60);
    let at_the_end = at(NOW + DAY - SECOND);
    assert_eq!(store.forget_requests(at_the_end.before(day)).await, Ok(0));
    let repeat = store.claim(request(1), at_the_end).await.unwrap();
    assert_eq!(repeat, ClaimResult::Repeat("made".to_owned()));
    // A row that is too old counts for nothing, also where nothing has removed it.
    let after = at(NOW + DAY);
    let next = IdempotentRequest {
        claimed_until: after.after(Duration::from_secs(5)),
        ..request(2)
    };
    first(store.claim(next, after).await.unwrap());
    assert_eq!(
        store.claim(next, after).await.unwrap(),
        ClaimResult::Running
    );
    assert_eq!(store.forget_requests(after).await, Ok(0));
    assert_eq!(store.forget_requests(at(NOW + DAY + 1)).await, Ok(1));
}

async fn an_answer_is_sealed_under_the_master_key(fixture: Fixture) {
    let store = &fixture.store;
    let claim = first(store.claim(request(1), now()).await.unwrap());
    create(store, claim).await.unwrap();
    let hex = "6D616465";
    let (sealed, readable) = match fixture.is_postgres() {
        true => (
            "length(sealed_answer) > 30 AND answer = ''",
            format!("position('\\x{hex}'::bytea IN sealed_answer) > 0"),
        ),
        false => (
            "length(sealed_answer) > 30 AND answer = ''",
            format!("instr(sealed_answer, x'{hex}') > 0"),
        ),
    };
    let count = |condition: &str| {
        fixture.number(&format!(
            "SELECT count(*) FROM idempotent_requests WHERE {condition}"
        ))
    };
    assert_eq!((count(sealed), count(&readable)), (1, 0));

    // A rekey seals it again, so the old key may go.
    let both = store.clone().unlock(&keys("ba")).await.unwrap();
    let last = both.reseal_answers(Vec::new(), 10).await.unwrap();
    assert_eq!(last, Some(vec![7; 32]));
    assert_eq!(both.reseal_answers(vec![7; 32], 10).await.unwrap(), None);
    assert_eq!(both.reseal_answers(Vec::new(), 10).await.unwrap(), None);
    assert_eq!(both.forget_other_keys().await.unwrap(), 0);
    let new = store.clone().unlock(&keys("b")).await.unwrap();
    let repeat = ClaimResult::Repeat("made".to_owned());
    assert_eq!(new.claim(request(1), now()).await.unwrap(), repeat);
    // An answer of another request does not decrypt, and nothing is done again.
    fixture.sql("UPDATE idempotent_requests SET sealed_answer = sealed_answer || sealed_answer");
    let broken = new.claim(request(1), now()).await.unwrap();
    assert!(matches!(broken, ClaimResult::Unreadable(_)), "{broken:?}");
}

async fn an_answer_of_an_earlier_version_is_read(fixture: Fixture) {
    let store = &fixture.store;
    let claim = first(store.claim(request(1), now()).await.unwrap());
    create(store, claim).await.unwrap();
    fixture.sql("UPDATE idempotent_requests SET answer = 'plain', sealed_answer = NULL");
    let repeat = ClaimResult::Repeat("plain".to_owned());
    assert_eq!(store.claim(request(1), now()).await.unwrap(), repeat);
}
