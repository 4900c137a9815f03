//! The filter of lists, of replays and of the live stream. All conditions hold at once; a missing condition excludes nothing.
//!
//! The rows are attempts, deliveries or events. A condition on an attempt (`response_status`, `error_kind`, `attempt`,
//! `min_duration_ms`) means the last attempt of a delivery where rows are deliveries. Where rows are events, one delivery
//! of the event meets all conditions on deliveries.

use std::fmt;

use crate::event_type::EventType;
use crate::ids::{EventId, SubscriptionId, WorkflowId};
use crate::outcome::FailureKind;
use crate::timestamp::Timestamp;
use crate::violations::Violations;

/// `S` is the status of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<S> {
    /// The first time of creation.
    pub since: Option<Timestamp>,
    /// The end of the times of creation, exclusive.
    pub until: Option<Timestamp>,
    pub status: Option<S>,
    pub event_type: Option<EventType>,
    pub subscription: Option<SubscriptionId>,
    pub event: Option<EventId>,
    pub workflow: Option<WorkflowId>,
    pub response_status: Option<ResponseCodes>,
    pub error_kind: Option<FailureKind>,
    /// From 1.
    pub attempt: Option<u32>,
    pub min_duration_ms: Option<u32>,
}

impl<S> Default for Filter<S> {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            status: None,
            event_type: None,
            subscription: None,
            event: None,
            workflow: None,
            response_status: None,
            error_kind: None,
            attempt: None,
            min_duration_ms: None,
        }
    }
}

/// The facts of an attempt that a filter asks about.
#[derive(Debug, Clone, Copy)]
pub struct AttemptFacts<'a, S> {
    pub created_at: Timestamp,
    pub status: S,
    pub event_type: EventType,
    pub subscription: SubscriptionId,
    pub event: &'a EventId,
    /// None for an event that an earlier version stored.
    pub workflow: Option<&'a WorkflowId>,
    pub response_status: Option<u16>,
    pub error_kind: Option<FailureKind>,
    pub attempt: u32,
    pub duration_ms: u64,
}

fn is<T: PartialEq>(wanted: &Option<T>, value: &T) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted == value)
}

impl<S: PartialEq> Filter<S> {
    pub fn matches(&self, attempt: &AttemptFacts<'_, S>) -> bool {
        let codes = |codes: ResponseCodes| {
            attempt
                .response_status
                .is_some_and(|code| codes.contains(code))
        };
        self.since.is_none_or(|since| attempt.created_at >= since)
            && self.until.is_none_or(|until| attempt.created_at < until)
            && is(&self.status, &attempt.status)
            && is(&self.event_type, &attempt.event_type)
            && is(&self.subscription, &attempt.subscription)
            && is(&self.event.as_ref(), &attempt.event)
            && (self.workflow.is_none() || self.workflow.as_ref() == attempt.workflow)
            && self.response_status.is_none_or(codes)
            && (self.error_kind.is_none() || self.error_kind == attempt.error_kind)
            && is(&self.attempt, &attempt.attempt)
            && self
                .min_duration_ms
                .is_none_or(|least| attempt.duration_ms >= u64::from(least))
    }
}

impl<S> Filter<S> {
    /// The same for the rows of one subscription; none if it asks for those of another.
    pub fn within(self, subscription: SubscriptionId) -> Option<Self> {
        let asked = self.subscription.unwrap_or(subscription);
        (asked == subscription).then_some(Self {
            subscription: Some(subscription),
            ..self
        })
    }

    /// Notes conditions that contradict each other.
    pub fn check(&self, violations: &mut Violations) {
        if self
            .since
            .zip(self.until)
            .is_some_and(|(since, until)| since > until)
        {
            violations.add("until", "must not be before since");
        }
    }
}

/// A range of response codes: one code, a class or an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCodes {
    first: u16,
    last: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a code from 100 to 999 (500), a class (5xx) or a range (400-499)")]
pub struct InvalidCodes;

impl ResponseCodes {
    /// Reads `500`, `5xx` or `400-499`.
    ///
    /// # Errors
    /// [`InvalidCodes`] for any other text, and for a range that ends before it begins.
    pub fn parse(text: &str) -> Result<Self, InvalidCodes> {
        let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => {
                let first = code(&format!("{class}00"))?;
                (first, first + 99)
            }
            (None, Some((first, last))) => (code(first)?, code(last)?),
            (None, None) => (code(text)?, code(text)?),
        };
        (first <= last)
            .then_some(Self { first, last })
            .ok_or(InvalidCodes)
    }

    pub fn first(self) -> u16 {
        self.first
    }

    /// Inclusive.
    pub fn last(self) -> u16 {
        self.last
    }

    pub fn contains(self, code: u16) -> bool {
        (self.first..=self.last).contains(&code)
    }
}

/// A text that [`ResponseCodes::parse`] reads.
impl fmt::Display for ResponseCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = *self;
        match last - first {
            0 => write!(f, "{first}"),
            99 if first % 100 == 0 => write!(f, "{}xx", first / 100),
            _ => write!(f, "{first}-{last}"),
        }
    }
}

/// A receiver may answer any code of three digits.
fn code(text: &str) -> Result<u16, InvalidCodes> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let code = text.parse().ok().filter(|code| digits && *code >= 100);
    code.ok_or(InvalidCodes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn codes(text: &str) -> Option<(u16, u16)> {
        let codes = ResponseCodes::parse(text).ok()?;
        Some((codes.first(), codes.last()))
    }

    #[test]
    fn response_codes_are_a_code_a_class_or_a_range() {
        assert_eq!(codes("500"), Some((500, 500)));
        assert_eq!(codes("999"), Some((999, 999)));
        assert_eq!(codes("5xx"), Some((500, 599)));
        assert_eq!(codes("400-499"), Some((400, 499)));
        assert_eq!(codes("404-404"), Some((404, 404)));
        for bad in [
            "",
            "5",
            "50",
            "5000",
            "099",
            "0xx",
            "xx",
            "5XX",
            "50x",
            "55xx",
            "+50",
            "-500",
            "500-",
            "499-400",
            "5xx-599",
            "400-499-500",
            "４００",
        ] {
            assert_eq!(codes(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_codes_or_an_error(text: String) {
            let _ = ResponseCodes::parse(&text);
        }

        #[test]
        fn a_range_contains_its_codes(first in 100..=999_u16, last in 100..=999_u16, code in 100..=999_u16) {
            let codes = ResponseCodes::parse(&format!("{first}-{last}"));
            prop_assert_eq!(codes.is_ok(), first <= last);
            if let Ok(codes) = codes {
                prop_assert_eq!(codes.contains(code), first <= code && code <= last);
                prop_assert_eq!(ResponseCodes::parse(&codes.to_string()), Ok(codes));
            }
        }
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Status {
        Good,
        Bad,
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_unix_micros(micros)
    }

    #[test]
    fn a_filter_matches_what_meets_all_of_its_conditions() {
        let event = EventId::parse("e").unwrap();
        let workflow = WorkflowId::parse("w").unwrap();
        let attempt = AttemptFacts {
            created_at: at(10),
            status: Status::Bad,
            event_type: EventType::WorkflowFailed,
            subscription: SubscriptionId(7),
            event: &event,
            workflow: Some(&workflow),
            response_status: Some(503),
            error_kind: Some(FailureKind::HttpStatus),
            attempt: 2,
            duration_ms: 30,
        };
        let all = Filter {
            since: Some(at(10)),
            until: Some(at(11)),
            status: Some(Status::Bad),
            event_type: Some(EventType::WorkflowFailed),
            subscription: Some(SubscriptionId(7)),
            event: Some(event.clone()),
            workflow: Some(workflow.clone()),
            response_status: ResponseCodes::parse("5xx").ok(),
            error_kind: Some(FailureKind::HttpStatus),
            attempt: Some(2),
            min_duration_ms: Some(30),
        };
        assert!(Filter::default().matches(&attempt));
        assert!(all.matches(&attempt));
        let none = || Filter::<Status>::default();
        let others = [
            Filter {
                since: Some(at(11)),
                ..none()
            },
            Filter {
                until: Some(at(10)),
                ..none()
            },
            Filter {
                status: Some(Status::Good),
                ..none()
            },
            Filter {
                event_type: Some(EventType::StepFailed),
                ..none()
            },
            Filter {
                subscription: Some(SubscriptionId(8)),
                ..none()
            },
            Filter {
                event: EventId::parse("f").ok(),
                ..none()
            },
            Filter {
                workflow: WorkflowId::parse("v").ok(),
                ..none()
            },
            Filter {
                response_status: ResponseCodes::parse("500").ok(),
                ..none()
            },
            Filter {
                error_kind: Some(FailureKind::Timeout),
                ..none()
            },
            Filter {
                attempt: Some(1),
                ..none()
            },
            Filter {
                min_duration_ms: Some(31),
                ..none()
            },
        ];
        for other in others {
            assert!(!other.matches(&attempt), "{other:?}");
        }
        let unanswered = AttemptFacts {
            response_status: None,
            workflow: None,
            ..attempt
        };
        assert!(
            !Filter {
                response_status: ResponseCodes::parse("100-999").ok(),
                ..none()
            }
            .matches(&unanswered)
        );
        assert!(
            !Filter {
                workflow: Some(workflow.clone()),
                ..none()
            }
            .matches(&unanswered)
        );
    }

    #[test]
    fn a_filter_within_another_subscription_matches_nothing() {
        let of = |subscription| Filter::<Status> {
            subscription,
            ..Filter::default()
        };
        let seven = Some(SubscriptionId(7));
        assert_eq!(of(None).within(SubscriptionId(7)), Some(of(seven)));
        assert_eq!(of(seven).within(SubscriptionId(7)), Some(of(seven)));
        assert_eq!(of(seven).within(SubscriptionId(8)), None);
    }
}
