//! The largest entries of the log.

use hookline_core::delivery::Trigger;
use hookline_core::event_type::EventType;
use hookline_core::http_log::{HttpLog, MAX_RESPONSE_HEADER_BYTES, PhaseTimes, PublicAddress};
use hookline_core::ids::{AttemptId, DeliveryId, EventId};
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;
use hookline_store::{Excerpt, LoggedError};

use super::*;
use crate::routes::response_size::ResponseBudget;

/// As many bytes as a subscription may have in its headers.
const CONFIGURED: usize = 8 * 1024;

/// An entry with the longest headers, and with bodies of this many control characters.
fn entry(body: usize, header: &str) -> LogResponse {
    let mut request_headers = HeaderLog::new();
    for _ in 0..20 {
        request_headers.mask(&"x".repeat(CONFIGURED / 20));
    }
    let mut response_headers = HeaderLog::new();
    response_headers.show("x", &header.repeat(MAX_RESPONSE_HEADER_BYTES));
    for _ in 0..99 {
        response_headers.show("content-type", "application/json");
    }
    LogResponse::from(LogEntry {
        attempt: LoggedAttempt {
            id: AttemptId(Uuid::nil()),
            delivery_id: DeliveryId(Uuid::nil()),
            subscription_id: SubscriptionId(i64::MAX),
            event_id: EventId::parse("e".repeat(255)).unwrap(),
            event_type: EventType::parse("workflow.step.completed").unwrap(),
            number: u32::MAX,
            trigger: Trigger::Replay,
            status: AttemptStatus::Failed,
            url: "u".repeat(2048),
            response_status: Some(500),
            response_body: Some("\u{1}".repeat(body)),
            error: Some(LoggedError {
                kind: FailureKind::HttpStatus,
                message: "m".repeat(1_000),
            }),
            duration_ms: u64::MAX,
            created_at: Timestamp::from_unix_micros(1),
            next_attempt_at: Some(Timestamp::from_unix_micros(1)),
            http: HttpLog {
                request_headers: Some(request_headers),
                response_headers: Some(response_headers),
                remote_address: PublicAddress::parse("2606:4700:1111:1111:1111:1111:1111:1111"),
                times: Some(PhaseTimes {
                    dns_ms: Some(u32::MAX),
                    connect_ms: Some(u32::MAX),
                    tls_ms: Some(u32::MAX),
                    first_byte_ms: Some(u32::MAX),
                }),
            },
        },
        request_body: Some(Excerpt {
            text: "\u{1}".repeat(body).into(),
            is_whole: true,
        }),
    })
}

fn bytes(rows: &[Box<RawValue>]) -> usize {
    rows.iter().map(|row| row.get().len() + 1).sum()
}

fn read(row: &RawValue) -> serde_json::Value {
    serde_json::from_str(row.get()).unwrap()
}

#[test]
fn a_hundred_entries_with_the_longest_headers_fit_on_a_page() {
    for (body, header) in [(16_384, "\u{fffd}"), (0, "\""), (100, "a")] {
        let rows = (0..100).map(|_| entry(body, header));
        let shown = ResponseBudget::default().truncate(rows);
        assert_eq!(shown.len(), 100);
        assert!(bytes(&shown) <= MAX_BYTES, "{} bytes", bytes(&shown));
        let last = read(&shown[99]);
        assert_eq!(last["truncated"], true);
        assert!(last["request_headers"].is_array() && last["response_headers"].is_array());
    }
}

#[test]
fn the_largest_entry_of_a_delivery_is_whole_beside_the_largest_body() {
    let mut budget = ResponseBudget::default();
    budget.reserve(&"\"".repeat(256 * 1024));
    let LogResponse { attempt, .. } = entry(16_384, "\"");
    let (shown, last) = budget.fill([((), attempt)].into_iter());
    assert!(last.is_none());
    assert!(bytes(&shown) <= MAX_BYTES - 2 * 256 * 1024);
    let headers = read(&shown[0])["response_headers"].clone();
    assert_eq!(headers.as_array().map(Vec::len), Some(100));
}

#[test]
fn usual_headers_stay_where_bodies_are_cut() {
    let mut row = entry(100_000, "a");
    let mut usual = HeaderLog::new();
    usual.show("webhook-id", &Uuid::nil().to_string());
    usual.mask("webhook-signature");
    row.attempt.request_headers = Some(usual.clone());
    row.attempt.response_headers = Some(usual.clone());
    row.truncate(256);
    assert_eq!(row.attempt.request_headers, Some(usual.clone()));
    assert_eq!(row.attempt.response_headers, Some(usual));
}
