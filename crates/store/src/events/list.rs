//! The events of an organization, newest first.

use std::cmp::Reverse;
use std::sync::Arc;

use diesel::prelude::*;
use diesel::sql_types::Text;
use hookline_core::cursor::Cursor;
use hookline_core::event_type::EventType;
use hookline_core::filter::Filter;
use hookline_core::ids::{EventId, EventKey, OrganizationId, WorkflowId};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::{UuidColumn, UuidKey};
use crate::deliveries::DeliveryStatus;
use crate::error::StoreError;
use crate::paging::{PageStart, ResultPage};
use crate::rows::{corrupt, read_event_type};
use crate::schema::events;
use crate::search::conditions::Conditions;
use crate::search::excerpts::Excerpt;
use crate::search::statement::RawQuery;
use crate::search::{FoundRow, SearchPlan, SearchRange, SearchStep, StreamKey, StreamKeys, search};
use crate::store::{Store, run};

/// A search for events. Conditions on deliveries are met by one delivery of the event, all of them.
#[derive(Debug, Clone)]
pub struct EventQuery {
    pub organization: OrganizationId,
    pub filter: Filter<DeliveryStatus>,
    pub limit: u32,
    pub start: PageStart,
    /// The most bytes of bodies that are read, if any. A body beyond them is read up to its first 256 bytes.
    pub body_bytes: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEvent {
    pub key: EventKey,
    pub event_id: EventId,
    pub event_type: EventType,
    /// None in a row of a version that did not keep it.
    pub workflow: Option<WorkflowId>,
    pub received_at: Timestamp,
    /// None where bodies are not read.
    pub body: Option<Excerpt>,
}

impl ListedEvent {
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.received_at,
            id: self.key.0,
        }
    }
}

impl Store {
    /// Newest first. There is no total: a count would read all events.
    pub async fn events(
        &self,
        query: EventQuery,
    ) -> Result<ResultPage<ListedEvent, ()>, StoreError> {
        let (start, limit, room) = (query.start, query.limit, query.body_bytes);
        let range = SearchRange::of(query.filter.since, query.filter.until);
        let plan = Arc::new(EventPlan::of(query));
        let step = async |range, share| {
            let plan = Arc::clone(&plan);
            run!(self, read, |conn, q: self| q::step(
                conn, &plan, range, share
            ))
        };
        let (found, searched) = search(start, limit, range, &plan.keys, step).await?;
        let rows = run!(self, read, |conn, q: self| q::entries(conn, &found, room))?;
        Ok(ResultPage {
            rows,
            total: (),
            searched,
        })
    }
}

#[derive(Debug, Clone)]
pub(crate) struct EventPlan {
    query: EventQuery,
    keys: StreamKeys,
}

impl EventPlan {
    pub(crate) fn of(query: EventQuery) -> Self {
        let filter = &query.filter;
        let keys = match (&filter.event, &filter.workflow) {
            (None, None) => {
                let asked = EventType::ALL.into_iter();
                let asked =
                    asked.filter(|one| filter.event_type.is_none_or(|wanted| wanted == *one));
                StreamKeys::Names(asked.map(|one| (one.as_str(), "")).collect())
            }
            _ => StreamKeys::One,
        };
        Self { query, keys }
    }

    fn conditions(&self) -> Conditions<'_, DeliveryStatus> {
        Conditions {
            organization: &self.query.organization,
            filter: &self.query.filter,
            status: self.query.filter.status.map(DeliveryStatus::as_str),
        }
    }
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = events)]
struct EventRow {
    key: UuidKey,
    event_id: String,
    event_type: String,
    workflow_id: Option<String>,
    received_at: i64,
}

impl EventRow {
    fn with(self, body: Option<Excerpt>) -> Result<ListedEvent, StoreError> {
        let workflow = self.workflow_id.map(WorkflowId::parse).transpose();
        Ok(ListedEvent {
            key: EventKey(self.key.0),
            event_id: EventId::parse(self.event_id).map_err(|why| corrupt("event_id", why))?,
            event_type: read_event_type(&self.event_type)?,
            workflow: workflow.map_err(|why| corrupt("workflow_id", why))?,
            received_at: Timestamp::from_unix_micros(self.received_at),
            body,
        })
    }
}

backends!(
    with {
        conditions: crate::search::conditions,
        excerpts: crate::search::excerpts,
        searching: crate::search,
    }

    use backend::{Conn, Db};

    impl SearchPlan<Db> for EventPlan {
        const TABLE: &'static str = "events";
        const ORDER: (&'static str, &'static str) = ("received_at", "key");

        fn keys(&self) -> &StreamKeys {
            &self.keys
        }

        fn write_source<'a>(&'a self, out: &mut RawQuery<'a, Db>, key: StreamKey) {
            let filter = &self.query.filter;
            if filter.event.is_some() {
                out.sql("t.key = ").bind::<UuidColumn, _>(self.conditions().event());
                return;
            }
            out.sql("t.organization_id = ").bind::<Text, _>(self.query.organization.as_str());
            match (key, &filter.workflow) {
                (_, Some(workflow)) => out.sql(" AND t.workflow_id = ").bind::<Text, _>(workflow.as_str()),
                (StreamKey::Names(event_type, _), None) => {
                    out.sql(" AND t.event_type = ").bind::<Text, _>(event_type)
                }
                (_, None) => out.sql(" AND t.event_type = k.a"),
            };
        }

        fn write_rest<'a>(&'a self, out: &mut RawQuery<'a, Db>) {
            conditions::of_events_themselves(out, &self.conditions());
            let conditions = self.conditions();
            if conditions.are_about_deliveries() {
                out.sql(" AND EXISTS (SELECT 1 FROM deliveries d WHERE d.event_key = t.key AND ");
                conditions::of_deliveries(out, &conditions, "d");
                out.sql(")");
            }
        }
    }

    pub(crate) fn step(
        conn: &mut Conn,
        plan: &EventPlan,
        range: SearchRange,
        share: i64,
    ) -> Result<SearchStep, StoreError> {
        searching::step(conn, plan, range, share)
    }

    /// The events at these places; their bodies whole up to `room` bytes in all.
    pub(crate) fn entries(
        conn: &mut Conn,
        found: &[FoundRow],
        room: Option<usize>,
    ) -> Result<Vec<ListedEvent>, StoreError> {
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<UuidKey> = found.iter().map(|row| row.id).collect();
        let mut rows: Vec<EventRow> = events::table
            .filter(events::key.eq_any(&keys))
            .select(EventRow::as_select())
            .load(conn)?;
        rows.sort_unstable_by_key(|row| Reverse((row.received_at, row.key)));
        let keys: Vec<UuidKey> = rows.iter().map(|row| row.key).collect();
        let bodies = match room {
            Some(room) => excerpts::read(conn, &keys, room)?,
            None => Default::default(),
        };
        let entry = |row: EventRow| {
            let body = bodies.get(&row.key).cloned();
            row.with(body)
        };
        rows.into_iter().map(entry).collect()
    }
);
