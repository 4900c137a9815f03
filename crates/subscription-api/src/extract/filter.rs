//! The filter of a list in its query.

use std::ops::RangeInclusive;

use hookline_core::event_type::EventType;
use hookline_core::filter::{Filter, ResponseCodes};
use hookline_core::ids::{EventId, SubscriptionId, WorkflowId};
use hookline_core::outcome::FailureKind;
use hookline_core::timestamp::Timestamp;

use crate::extract::query::{Query, digits};

/// Whether a page has bodies of requests and responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    Bodies,
    Nothing,
}

/// Takes all parameters of a filter; `status` reads the status of the rows.
pub(crate) fn filter<S>(
    query: &mut Query,
    status: impl FnOnce(&str) -> Result<S, &'static str>,
) -> Filter<S> {
    let filter = Filter {
        event_type: query.take("event_type", EventType::parse),
        status: query.take("status", status),
        since: query.take("since", Timestamp::parse),
        until: query.take("until", Timestamp::parse),
        subscription: query.take("subscription_id", subscription_id),
        event: query.take("event_id", |text| EventId::parse(text)),
        workflow: query.take("workflow_id", |text| WorkflowId::parse(text)),
        response_status: query.take("response_status", ResponseCodes::parse),
        error_kind: query.take("error_kind", |name| {
            FailureKind::parse(name).ok_or(FailureKind::RULE)
        }),
        attempt: query.take("attempt", |text| small(text, 1)),
        min_duration_ms: query.take("min_duration_ms", |text| small(text, 0)),
    };
    filter.check(&mut query.violations);
    filter
}

pub(crate) fn subscription_id(text: &str) -> Result<SubscriptionId, String> {
    number(text, 1..=i64::MAX.unsigned_abs()).map(|id| SubscriptionId(id.cast_signed()))
}

/// Takes `include`.
pub(crate) fn include(query: &mut Query, default: Include) -> Include {
    let given = query.take("include", |text| match text {
        "bodies" => Ok(Include::Bodies),
        "none" => Ok(Include::Nothing),
        _ => Err("must be bodies or none"),
    });
    given.unwrap_or(default)
}

fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let (least, most) = (range.start(), range.end());
    digits(text)
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("must be a whole number from {least} to {most}"))
}

/// A number that the store keeps in 32 bits.
fn small(text: &str, least: u64) -> Result<u32, String> {
    let most = i32::MAX.unsigned_abs();
    number(text, least..=most.into()).map(|number| u32::try_from(number).unwrap_or(most))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Filter<()>, String> {
        let mut query = Query::read(text);
        let filter = filter(&mut query, |_| Err("must be a status"));
        let read = query.finish().map(|()| filter);
        read.map_err(|violations| violations.to_string())
    }

    #[test]
    fn every_condition_is_read() {
        let text = "since=2025-12-21T10:30:00Z&until=2025-12-21T10:30:00Z&event_type=workflow.failed&subscription_id=7\
                    &event_id=e&workflow_id=w&response_status=5xx&error_kind=tls&attempt=2&min_duration_ms=0";
        let filter = read(text).unwrap();
        assert_eq!(filter.since, filter.until);
        assert_eq!(filter.subscription, Some(SubscriptionId(7)));
        assert_eq!(filter.event, EventId::parse("e").ok());
        assert_eq!(filter.workflow, WorkflowId::parse("w").ok());
        assert_eq!(filter.response_status, ResponseCodes::parse("500-599").ok());
        assert_eq!(filter.error_kind, Some(FailureKind::Tls));
        assert_eq!((filter.attempt, filter.min_duration_ms), (Some(2), Some(0)));
        assert_eq!(read(""), Ok(Filter::default()));
    }

    #[test]
    fn every_invalid_condition_is_named_at_once() {
        let bad = "since=2025-12-21T10:30:01Z&until=2025-12-21T10:30:00Z&event_type=x&subscription_id=0&event_id=\
                   &workflow_id=%00&response_status=50&error_kind=x&attempt=0&min_duration_ms=2147483648&status=x";
        insta::assert_snapshot!(read(bad).unwrap_err(), @"event_type: must be one of workflow.started, workflow.completed, workflow.failed, workflow.step.started, workflow.step.completed, workflow.step.failed; status: must be a status; subscription_id: must be a whole number from 1 to 9223372036854775807; event_id: must not be empty; workflow_id: must not have control characters; response_status: must be a code from 100 to 999 (500), a class (5xx) or a range (400-499); error_kind: must be timeout, dns, connect, tls, blocked_address, http_status or response; attempt: must be a whole number from 1 to 2147483647; min_duration_ms: must be a whole number from 0 to 2147483647; until: must not be before since");
    }

    proptest! {
        #[test]
        fn any_text_is_a_filter_or_an_error(text: String) {
            let _ = read(&text);
        }
    }
}
