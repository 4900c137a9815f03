use hookline_store::{Follow, LogQuery, PageStart};

use crate::fixture::{DAY, Fixture, NOW, at, attempted, event, now, on_both, organization};

on_both![what_is_older_than_the_retention_is_forgotten_with_its_totals];

async fn what_is_older_than_the_retention_is_forgotten_with_its_totals(fixture: Fixture) {
    let to = fixture.subscribe("a").await.id;
    for (id, days_ago) in [("old", 40), ("new", 0)] {
        let then = at(NOW - days_ago * DAY);
        let event = event("a", id);
        fixture.store.prepare_days(then).await.unwrap();
        let owed = fixture
            .store
            .take_in(&fixture.index, vec![event.clone()].into(), then)
            .await
            .unwrap()
            .owed[0];
        let mut record = attempted(owed, to, &event, Follow::Delivered);
        record.started = then;
        fixture.record(vec![record]).await;
    }
    let sizes = ["old", "new", "pending"].map(|id| event("a", id).event.body.len() as u64);
    let stored = async || {
        let store = &fixture.store;
        store.stored_bytes(organization("a")).await.unwrap()
    };
    assert_eq!(stored().await, sizes[0] + sizes[1]);
    fixture.take_in(vec![event("a", "new")]).await;
    assert_eq!(stored().await, sizes[0] + sizes[1], "it is stored once");
    // Still owed: it is kept however old it is.
    let pending = event("a", "pending");
    let old = at(NOW - 40 * DAY);
    let pending = fixture
        .store
        .take_in(&fixture.index, vec![pending].into(), old)
        .await
        .unwrap()
        .owed[0];

    fixture
        .store
        .forget_attempts(at(NOW - 30 * DAY).unix_day())
        .await
        .unwrap();
    assert_eq!(
        fixture
            .store
            .forget_events(at(NOW - 33 * DAY))
            .await
            .unwrap(),
        1
    );
    assert_eq!(
        fixture
            .store
            .forget_events(at(NOW - 33 * DAY))
            .await
            .unwrap(),
        0
    );

    let kept = sizes[1] + sizes[2];
    assert_eq!(stored().await, kept);
    let full = async |bytes| fixture.store.stored_at_least(bytes).await.unwrap();
    assert!(full(kept).await.contains(&organization("a")));
    assert!(full(kept + 1).await.is_empty());

    let page = fixture
        .store
        .log(LogQuery {
            organization: organization("a"),
            subscription: None,
            event_type: None,
            status: None,
            limit: 10,
            start: PageStart::Offset(0),
        })
        .await
        .unwrap();
    assert_eq!((page.total, page.rows.len()), (1, 1));
    assert_eq!(page.rows[0].event_id.as_str(), "new");
    assert_eq!(page.rows[0].created_at, now());
    assert_eq!(
        fixture
            .store
            .owed(vec![pending.delivery])
            .await
            .unwrap()
            .len(),
        1
    );
}
