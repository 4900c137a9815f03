//! The query of a request for numbers.

use std::time::Duration;

use actix_web::HttpRequest;
use hookline_core::event_type::EventType;
use hookline_core::ids::SubscriptionId;
use hookline_core::timestamp::Timestamp;
use hookline_core::violations::Violations;
use hookline_store::{StatsGroupBy, StatsStep};

use crate::extract::path_id::parse_subscription;
use crate::extract::query::Query;

/// The most points of all series.
const MOST_POINTS: i64 = 1_500;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far back minutes go.
const MINUTES_REACH: Duration = DAY;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct StatsRequest {
    pub(super) subscription: Option<SubscriptionId>,
    pub(super) event_type: Option<EventType>,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
    pub(super) step: StatsStep,
    pub(super) group_by: Option<StatsGroupBy>,
}

impl StatsRequest {
    pub(super) fn parse(request: &HttpRequest, now: Timestamp) -> Result<Self, Violations> {
        Self::of_text(request.query_string(), now)
    }

    fn of_text(text: &str, now: Timestamp) -> Result<Self, Violations> {
        let mut query = Query::read(text);
        let subscription = query.take("subscription_id", |text| {
            parse_subscription(text).ok_or("must be the id of a subscription")
        });
        let event_type = query.take("event_type", EventType::parse);
        let since = query.take("since", Timestamp::parse);
        let until = query.take("until", Timestamp::parse);
        let step = query.take("step", |name| {
            StatsStep::parse(name).ok_or("must be 1m, 1h or 1d")
        });
        let group_by = query.take("group_by", |name| {
            StatsGroupBy::parse(name)
                .ok_or("must be subscription_id, event_type, outcome, code_class or error_kind")
        });
        let step = step.unwrap_or(StatsStep::Hour);
        let until = until.unwrap_or(now);
        let since = since.unwrap_or_else(|| until.before(default_span(step)));
        if since >= until {
            query.violations.add("until", "must be after since");
        }
        let request = Self {
            subscription,
            event_type,
            since: begin_of_step(since, step),
            until: end_of_step(until, step),
            step,
            group_by,
        };
        request.check_reach(now, &mut query.violations);
        if request.steps() > MOST_POINTS {
            query.violations.add("step", request.too_many_points(1));
        }
        query.finish()?;
        Ok(request)
    }

    fn check_reach(&self, now: Timestamp, violations: &mut Violations) {
        let earliest = begin_of_step(now.before(MINUTES_REACH), StatsStep::Hour);
        if self.step == StatsStep::Minute && self.since < earliest {
            let message = format!(
                "minutes are kept for a day: ask for {earliest} or later, or for the step 1h"
            );
            violations.add("since", message);
        }
    }

    pub(super) fn steps(&self) -> i64 {
        (self.until.unix_micros() - self.since.unix_micros()) / self.step.micros()
    }

    /// Refuses an answer of this number of series that has too many points.
    pub(super) fn check_series(&self, series: usize) -> Result<(), Violations> {
        let series = i64::try_from(series).unwrap_or(i64::MAX);
        match self.steps().saturating_mul(series) > MOST_POINTS {
            true => Err(Violations::one("group_by", self.too_many_points(series))),
            false => Ok(()),
        }
    }

    fn too_many_points(&self, series: i64) -> String {
        let steps = self.steps();
        let narrower = match series {
            1 => "ask for a shorter time or a longer step",
            _ => "ask for a shorter time, a longer step, or one subscription or event type",
        };
        format!("{series} series of {steps} steps are more than {MOST_POINTS} points: {narrower}")
    }
}

fn default_span(step: StatsStep) -> Duration {
    match step {
        StatsStep::Minute => DAY / 24,
        StatsStep::Hour => DAY,
        StatsStep::Day => 30 * DAY,
    }
}

fn begin_of_step(time: Timestamp, step: StatsStep) -> Timestamp {
    let micros = time.unix_micros();
    Timestamp::from_unix_micros(micros - micros.rem_euclid(step.micros()))
}

fn end_of_step(time: Timestamp, step: StatsStep) -> Timestamp {
    let begin = begin_of_step(time, step);
    match begin == time {
        true => time,
        false => Timestamp::from_unix_micros(begin.unix_micros() + step.micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2025-12-21T10:30:20Z").unwrap()
    }

    fn range(text: &str) -> Result<String, String> {
        match StatsRequest::of_text(text, now()) {
            Ok(request) => Ok(format!(
                "{} to {}, {} steps",
                request.since,
                request.until,
                request.steps()
            )),
            Err(why) => Err(why.to_string()),
        }
    }

    #[test]
    fn a_range_has_whole_steps() {
        insta::assert_snapshot!(range("").unwrap(), @"2025-12-20T10:00:00Z to 2025-12-21T11:00:00Z, 25 steps");
        insta::assert_snapshot!(range("step=1m").unwrap(), @"2025-12-21T09:30:00Z to 2025-12-21T10:31:00Z, 61 steps");
        insta::assert_snapshot!(range("step=1d").unwrap(), @"2025-11-21T00:00:00Z to 2025-12-22T00:00:00Z, 31 steps");
        insta::assert_snapshot!(
            range("since=2025-12-21T08:00:00Z&until=2025-12-21T09:00:00Z").unwrap(),
            @"2025-12-21T08:00:00Z to 2025-12-21T09:00:00Z, 1 steps"
        );
    }

    #[test]
    fn a_range_that_is_too_long_says_how_to_narrow_it() {
        insta::assert_snapshot!(
            range("since=2025-10-01T00:00:00Z").unwrap_err(),
            @"step: 1 series of 1955 steps are more than 1500 points: ask for a shorter time or a longer step"
        );
        insta::assert_snapshot!(
            range("step=1m&since=2025-12-20T09:59:00Z").unwrap_err(),
            @"since: minutes are kept for a day: ask for 2025-12-20T10:00:00Z or later, or for the step 1h"
        );
        let request = StatsRequest::of_text("", now()).unwrap();
        assert!(request.check_series(60).is_ok());
        insta::assert_snapshot!(
            request.check_series(61).unwrap_err().to_string(),
            @"group_by: 61 series of 25 steps are more than 1500 points: ask for a shorter time, a longer step, or one subscription or event type"
        );
    }

    #[test]
    fn a_whole_day_of_minutes_is_allowed_at_any_time() {
        assert!(range("step=1m&since=2025-12-20T10:00:00Z").is_ok());
    }

    #[test]
    fn every_invalid_parameter_is_reported() {
        insta::assert_snapshot!(
            range("subscription_id=0&step=2h&group_by=url&since=x&until=2025-12-20T00:00:00Z&limit=1").unwrap_err(),
            @"subscription_id: must be the id of a subscription; since: must be an RFC 3339 time such as 2025-12-21T10:30:00Z; step: must be 1m, 1h or 1d; group_by: must be subscription_id, event_type, outcome, code_class or error_kind; limit: is not a parameter of this call"
        );
        insta::assert_snapshot!(
            range("since=2025-12-20T00:00:00Z&until=2025-12-20T00:00:00Z").unwrap_err(),
            @"until: must be after since"
        );
    }
}
