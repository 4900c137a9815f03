use super::*;

fn subscription(events: &[&'static str]) -> LedgerSubscription {
    LedgerSubscription {
        organization: "o".to_owned(),
        events: events.to_vec(),
        secret: "hush".to_owned(),
        created: None,
        lost_by_failover: false,
    }
}

fn request(body: &str, id: &str) -> ReceivedRequest {
    ReceivedRequest {
        at: Instant::now(),
        headers: HashMap::from([("webhook-id".to_owned(), id.to_owned())]),
        body: body.to_owned().into(),
        path: "/0".to_owned(),
    }
}

const BODY: &str = r#"{"organization_id":"o","event_id":"e"}"#;

fn published(ledger: &Ledger) -> EventName {
    let name = ("o".to_owned(), "e".to_owned());
    ledger.publishes(&name, "workflow.failed", BODY);
    name
}

#[test]
fn a_confirmed_event_is_owed_to_earlier_subscriptions() {
    let ledger = Ledger::default();
    let before = ledger.asks_for(subscription(&["workflow.failed"]));
    let other = ledger.asks_for(subscription(&["workflow.started"]));
    let unknown = ledger.asks_for(subscription(&["workflow.failed"]));
    ledger.created(before, 1);
    ledger.created(other, 2);
    let name = published(&ledger);
    ledger.created(unknown, 3);
    assert_eq!(ledger.counts().owed, 0, "nobody has confirmed it");
    ledger.confirmed(&name);
    assert_eq!(ledger.missing(), [(name, before)]);
    ledger.record_request(before, &request(BODY, "1"));
    assert_eq!(ledger.counts().lost, 1, "it was not answered with 2xx");
    ledger.record_accepted(before, &request(BODY, "1"));
    ledger.record_accepted(before, &request(BODY, "1"));
    let counts = ledger.counts();
    assert_eq!(
        (counts.delivered, counts.lost, counts.duplicates),
        (1, 0, 1)
    );
    assert_eq!(ledger.violations().1, 0);
}

#[test]
fn a_request_that_is_not_owed_or_differs_is_a_violation() {
    let ledger = Ledger::default();
    let wants = ledger.asks_for(subscription(&["workflow.failed"]));
    let not = ledger.asks_for(subscription(&["workflow.started"]));
    let violations = |number, body: &str, id| {
        ledger.record_request(number, &request(body, id));
        ledger.violations().1
    };
    assert_eq!(violations(wants, BODY, "1"), 1, "never published");
    published(&ledger);
    assert_eq!(violations(wants, BODY, "1"), 1);
    assert_eq!(violations(wants, BODY, "1"), 1, "a repeat is fine");
    assert_eq!(violations(not, BODY, "2"), 2, "not wanted");
    assert_eq!(violations(wants, BODY, "3"), 3, "another id");
    assert_eq!(
        violations(wants, &BODY.replace(':', ": "), "1"),
        4,
        "other bytes"
    );
    assert_eq!(violations(9, BODY, "1"), 5, "nobody");
}

#[test]
fn events_lost_by_a_failover_are_not_owed_unless_confirmed_before() {
    let ledger = Ledger::default();
    let number = ledger.asks_for(subscription(&["workflow.failed"]));
    ledger.created(number, 1);
    let before = Instant::now();
    let name = published(&ledger);
    ledger.confirmed(&name);
    let now = Instant::now();
    let stored = |events: &[&EventName]| StoredRows {
        events: events.iter().copied().cloned().collect(),
        subscriptions: HashSet::from([(1, "http://receiver/0".to_owned())]),
    };
    let lost = |from| LostCommits {
        from,
        until: now,
        back: now,
    };
    for (from, events, lost_by_failover) in [
        (before, &[][..], 1),
        (before, &[&name], 0),
        // It was confirmed before: then it was in the copy.
        (now + Duration::from_secs(1), &[], 0),
    ] {
        ledger.mark_lost_by_failover(&[lost(from)], &stored(events));
        let counts = ledger.counts();
        assert_eq!(
            (counts.lost_by_failover, counts.owed),
            (lost_by_failover, 1 - lost_by_failover)
        );
    }
}

#[test]
fn a_gap_is_the_longest_time_without_a_delivery() {
    let start = Instant::now();
    let second = |n| start + Duration::from_secs(n);
    let deliveries = [second(1), second(2), second(7), second(8)];
    let gap = |from, until| longest_gap(&deliveries, second(from), second(until)).as_secs();
    assert_eq!(gap(0, 9), 5);
    assert_eq!(gap(3, 9), 4);
    assert_eq!(gap(8, 20), 12);
}
