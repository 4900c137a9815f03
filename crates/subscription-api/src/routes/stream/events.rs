//! The events of a stream.

use std::fmt::Write as _;

use hookline_core::cursor::CursorScope;
use hookline_store::{
    AttemptStatus, DeliveryEnd, DeliveryStatus, LogPlace, LoggedAttempt, RemovedRows, TailEntry,
};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::ApiError;
use crate::live::ring::LiveRow;
use crate::routes::logs::AttemptResponse;

/// A delivery has ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryEvent {
    #[schema(value_type = String, format = "uuid")]
    delivery_id: Uuid,
    subscription_id: i64,
    event_id: String,
    event_type: &'static str,
    /// `delivered`, `exhausted`, `skipped` or `cancelled`.
    status: &'static str,
    /// Attempts made.
    attempts: u32,
    /// The time of the end.
    #[schema(format = DateTime)]
    at: String,
}

/// A subscription was created, changed, disabled or deleted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubscriptionEvent<'a> {
    subscription_id: i64,
    /// `created`, `changed`, `disabled` (by its owner or by the system) or `deleted`.
    change: &'static str,
    /// Why the system disabled it: `gone` or `failing`.
    #[schema(required = true)]
    disabled_reason: Option<&'a str>,
    #[schema(format = DateTime)]
    at: String,
}

/// Retention has removed rows before the stream came to them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DroppedEvent {
    /// At most this many rows. Retention removes whole days, and the day of `after` counts in full.
    count: u64,
    /// The `Last-Event-ID` of the request.
    after: String,
    /// The last removed row.
    until: String,
}

impl DeliveryEvent {
    /// The end of a delivery by an attempt, if it is one.
    fn of_attempt(attempt: &LoggedAttempt) -> Option<Self> {
        let status = match (attempt.status, attempt.next_attempt_at) {
            (AttemptStatus::Success, _) => DeliveryStatus::Delivered,
            (AttemptStatus::Failed, None) => DeliveryStatus::Exhausted,
            (AttemptStatus::Failed, Some(_)) => return None,
        };
        let took = std::time::Duration::from_millis(attempt.duration_ms);
        Some(Self {
            delivery_id: attempt.delivery_id.0,
            subscription_id: attempt.subscription_id.0,
            event_id: attempt.event_id.as_str().to_owned(),
            event_type: attempt.event_type.as_str(),
            status: status.as_str(),
            attempts: attempt.number,
            at: attempt.created_at.after(took).to_string(),
        })
    }
}

impl From<&DeliveryEnd> for DeliveryEvent {
    fn from(end: &DeliveryEnd) -> Self {
        Self {
            delivery_id: end.delivery.0,
            subscription_id: end.subscription.0,
            event_id: end.event.as_str().to_owned(),
            event_type: end.event_type.as_str(),
            status: end.status.as_str(),
            attempts: end.attempts,
            at: end.at.to_string(),
        }
    }
}

/// Writes the events of a row. The last one has the place: a client that has lost the others goes on before them.
pub(super) fn write(
    out: &mut String,
    list: CursorScope,
    row: &LiveRow,
    after: LogPlace,
) -> Result<(), ApiError> {
    match &row.row.entry {
        TailEntry::Attempt { attempt, .. } => {
            let shown = AttemptResponse::without_body(LoggedAttempt::clone(attempt));
            event(out, "attempt", &shown)?;
            if let Some(end) = DeliveryEvent::of_attempt(attempt) {
                out.push('\n');
                event(out, "delivery", &end)?;
            }
        }
        TailEntry::DeliveryEnd(end) => event(out, "delivery", &DeliveryEvent::from(end))?,
        TailEntry::Subscription(changed) => {
            let shown = SubscriptionEvent {
                subscription_id: changed.subscription.0,
                change: changed.change.as_str(),
                disabled_reason: changed.disabled_reason.as_deref(),
                at: changed.at.to_string(),
            };
            event(out, "subscription", &shown)?;
        }
    }
    place(out, list, after);
    Ok(())
}

pub(super) fn dropped(
    out: &mut String,
    list: CursorScope,
    after: LogPlace,
    removed: RemovedRows,
) -> Result<(), ApiError> {
    let shown = DroppedEvent {
        count: removed.count,
        after: list.text(after.cursor()),
        until: list.text(removed.last.cursor()),
    };
    event(out, "dropped", &shown)?;
    out.push('\n');
    Ok(())
}

/// Ends an event with its id. Without an event it sets the client's `Last-Event-ID` alone (the HTML standard, 9.2.6).
pub(super) fn place(out: &mut String, list: CursorScope, place: LogPlace) {
    out.push_str("id: ");
    out.push_str(&list.text(place.cursor()));
    out.push_str("\n\n");
}

fn event(out: &mut String, name: &str, data: &impl Serialize) -> Result<(), ApiError> {
    // JSON has no line breaks outside of its escapes.
    let data = serde_json::to_string(data).map_err(|why| ApiError::Internal(why.to_string()))?;
    // A String takes all that is written.
    let _written = writeln!(out, "event: {name}\ndata: {data}");
    Ok(())
}
