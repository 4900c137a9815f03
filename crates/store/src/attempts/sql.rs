//! Queries of the log of attempts, newest first.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use crate::attempts::rows::AttemptRow;
use crate::attempts::{AttemptStatus, LogEntry, LogQuery};
use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::search::conditions::Conditions;
use crate::search::statement::RawQuery;
use crate::search::{
    DeliverySpan, FoundRow, SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys,
};

/// An attempt and its event's id.
#[derive(QueryableByName)]
pub(crate) struct FoundAttempt {
    #[diesel(embed)]
    attempt: AttemptRow,
    #[diesel(sql_type = Text)]
    event_id: String,
}

/// A search in the log.
#[derive(Debug, Clone)]
pub(crate) struct LogPlan {
    query: LogQuery,
    pub(crate) keys: StreamKeys,
}

impl LogPlan {
    fn is_failed(&self) -> bool {
        self.query.filter.status == Some(AttemptStatus::Failed)
    }

    fn conditions(&self) -> Conditions<'_, AttemptStatus> {
        Conditions {
            organization: &self.query.organization,
            filter: &self.query.filter,
            status: self.query.filter.status.map(AttemptStatus::as_str),
        }
    }
}

backends!(
    with {
        conditions: crate::search::conditions,
        sources: crate::search::sources,
        excerpts: crate::search::excerpts,
        searching: crate::search,
        own: crate::attempts,
    }

    use backend::{Conn, Db};

    impl SearchPlan<Db> for LogPlan {
        const TABLE: &'static str = "attempts";
        const ORDER: (&'static str, &'static str) = ("created_at", "id");

        fn keys(&self) -> &StreamKeys {
            &self.keys
        }

        fn write_source<'a>(&'a self, out: &mut RawQuery<'a, Db>, key: StreamKey) {
            match key {
                StreamKey::Columns if matches!(self.keys, StreamKeys::Deliveries(_)) => {
                    out.sql("t.delivery_id = k.id AND t.created_at >= k.since AND t.created_at <= k.until");
                }
                StreamKey::Delivery(DeliverySpan { id, since, until }) => {
                    out.sql("t.delivery_id = ").bind::<UuidColumn, _>(id);
                    out.sql(" AND t.created_at >= ").bind::<BigInt, _>(since);
                    out.sql(" AND t.created_at <= ").bind::<BigInt, _>(until);
                }
                _ => write_index(self, out),
            }
        }

        fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, Db>) {
            conditions::of_attempts(out, &self.conditions());
        }
    }

    /// The condition of an index: an organization or a subscription, all attempts or the failed ones; or an organization
    /// and a type.
    fn write_index<'a>(plan: &'a LogPlan, out: &mut RawQuery<'a, Db>) {
        let (query, filter) = (&plan.query, &plan.query.filter);
        match filter.subscription {
            // `plan` has checked its organization.
            Some(subscription) => out.sql("t.subscription_id = ").bind::<BigInt, _>(subscription.0),
            None => out.sql("t.organization_id = ").bind::<Text, _>(query.organization.as_str()),
        };
        if plan.is_failed() {
            // The same text as in the partial indexes: SQLite does not use these for a bound value.
            out.sql(" AND t.status = 'failed'");
        } else if let (None, Some(event_type)) = (filter.subscription, filter.event_type) {
            out.sql(" AND t.event_type = ").bind::<Text, _>(event_type.as_str());
        }
    }

    /// None where the subscription does not belong to the organization.
    pub(crate) fn plan(conn: &mut Conn, query: LogQuery) -> Result<Option<LogPlan>, StoreError> {
        let (organization, filter) = (&query.organization, &query.filter);
        if !sources::owns(conn, organization, filter.subscription)? {
            return Ok(None);
        }
        let keys = match sources::deliveries(conn, organization, filter)? {
            Some(spans) => StreamKeys::Deliveries(spans),
            None => StreamKeys::One,
        };
        Ok(Some(LogPlan { query, keys }))
    }

    pub(crate) fn step(
        conn: &mut Conn,
        plan: &LogPlan,
        range: SearchRange,
        share: i64,
    ) -> Result<SearchStep, StoreError> {
        searching::step(conn, plan, range, share)
    }

    /// The attempts at these places; with their events, whole ones up to `room` bytes in all.
    pub(crate) fn entries(
        conn: &mut Conn,
        rows: &[FoundRow],
        room: Option<usize>,
    ) -> Result<Vec<LogEntry>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let found = own::at(conn, rows)?;
        let keys: Vec<UuidKey> = found.iter().map(|row| row.attempt.event_key).collect();
        let bodies = match room {
            Some(room) => excerpts::read(conn, &keys, room)?,
            None => Default::default(),
        };
        let entry = |row: FoundAttempt| {
            Ok(LogEntry {
                request_body: bodies.get(&row.attempt.event_key).cloned(),
                attempt: row.attempt.into_attempt(row.event_id)?,
            })
        };
        found.into_iter().map(entry).collect()
    }
);
