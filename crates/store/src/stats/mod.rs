//! Numbers of an organization, a subscription or an event type: a series from the roll-up, and what is pending now.

use hookline_core::event_type::EventType;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::rollup::{HOUR, MINUTE};
use crate::stats::series::StatsSeries;
use crate::store::{Store, run};

pub(crate) mod current;
pub(crate) mod postgres;
pub(crate) mod series;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// The most rows of the roll-up that a query reads.
pub(crate) const MOST_ROWS: i64 = 500_000;

#[derive(Debug, Clone)]
pub struct StatsScope {
    pub organization: OrganizationId,
    pub subscription: Option<SubscriptionId>,
    pub event_type: Option<EventType>,
}

impl StatsScope {
    fn event_type_name(&self) -> &'static str {
        self.event_type.map_or("", EventType::as_str)
    }
}

/// The length of a point of a series. Steps begin at whole minutes, hours and days of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
pub enum StatsStep {
    #[strum(serialize = "1m")]
    Minute,
    #[strum(serialize = "1h")]
    Hour,
    #[strum(serialize = "1d")]
    Day,
}

impl StatsStep {
    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    pub fn micros(self) -> i64 {
        match self {
            StatsStep::Minute => MINUTE,
            StatsStep::Hour => HOUR,
            StatsStep::Day => 24 * HOUR,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum StatsGroupBy {
    SubscriptionId,
    EventType,
    Outcome,
    CodeClass,
    ErrorKind,
}

impl StatsGroupBy {
    /// The name in requests and answers.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}

#[derive(Debug, Clone)]
pub struct StatsQuery {
    pub scope: StatsScope,
    /// The begin of a step.
    pub since: Timestamp,
    /// The end of a step.
    pub until: Timestamp,
    pub step: StatsStep,
    pub group_by: Option<StatsGroupBy>,
}

impl Store {
    /// A series for each group that has a count; without `group_by`, one. None where the query would read more than
    /// 500,000 rows.
    pub async fn stats(&self, query: StatsQuery) -> Result<Option<Vec<StatsSeries>>, StoreError> {
        run!(self, read, |conn, q: sql| q::series(conn, &query))
    }
}
