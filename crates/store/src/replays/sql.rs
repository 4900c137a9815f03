//! Queries of replays for their owner.

use std::collections::BTreeSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text};
use hookline_core::filter::Filter;
use hookline_core::ids::{OrganizationId, ReplayId, SubscriptionId};
use hookline_core::replay::{ReplayFilter, ReplayStatus};
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::paging::{COUNTED, PageStart, ResultPage, Stretch, stretched};
use crate::replays::{
    NewReplay, Replay, ReplayEndReason, ReplayOutcome, ReplayQuery, ReplayScope, ReplayState,
    ReplayTarget,
};
use crate::rows::{corrupt, organization, read_event_type, read_list, read_name};
use crate::schema::replays;
use crate::search::statement::RawQuery;

pub(crate) const RUNNING: &str = "running";

pub(crate) const FINISHED: &str = "finished";

pub(crate) const CANCELLED: &str = "cancelled";

/// The column `kind`.
const DELIVERIES: &str = "deliveries";

const MISSING: &str = "missing";

/// `wanted` of a row with its filter in `filter`. An earlier version does not know it, and takes no step of such a replay.
const IN_FILTER: &str = "filter";

/// `wanted` of a row of an earlier version: the default statuses.
const UNDELIVERED: &str = "undelivered";

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = replays)]
pub(crate) struct ReplayRow {
    pub(crate) id: UuidKey,
    organization_id: String,
    kind: String,
    /// 0 for all of the organization.
    subscription_id: i64,
    filter: Option<String>,
    wanted: String,
    event_types: Option<String>,
    since: Option<i64>,
    until: Option<i64>,
    expected: i64,
    replayed: i64,
    pub(crate) cursor_at: Option<i64>,
    pub(crate) cursor_id: Option<UuidKey>,
    state: String,
    reason: Option<String>,
    pub(crate) created_at: i64,
    finished_at: Option<i64>,
}

impl ReplayRow {
    pub(crate) fn scope(&self) -> Result<ReplayScope, StoreError> {
        Ok(ReplayScope {
            organization: organization(&self.organization_id)?,
            target: self.target()?,
            filter: self.filter()?,
        })
    }

    fn target(&self) -> Result<ReplayTarget, StoreError> {
        let id = SubscriptionId(self.subscription_id);
        match (self.kind.as_str(), self.subscription_id) {
            (DELIVERIES, 0) => Ok(ReplayTarget::Organization),
            (DELIVERIES, _) => Ok(ReplayTarget::Subscription(id)),
            (MISSING, 1..) => Ok(ReplayTarget::Missing(id)),
            (other, _) => Err(corrupt("kind", other)),
        }
    }

    fn filter(&self) -> Result<ReplayFilter, StoreError> {
        if let Some(stored) = &self.filter {
            let stored = serde_json::from_str(stored).map_err(|why| corrupt("filter", why))?;
            return ReplayFilter::from_json(stored).map_err(|why| corrupt("filter", why));
        }
        let event_types = self.event_types.as_deref();
        let event_types = event_types.map(|text| read_list(text, read_event_type));
        let statuses = match self.wanted.as_str() {
            UNDELIVERED => ReplayFilter::default().statuses,
            one => BTreeSet::from([read_name::<ReplayStatus>("wanted", one)?]),
        };
        Ok(ReplayFilter {
            statuses,
            event_types: event_types.transpose()?,
            conditions: Filter {
                since: self.since.map(Timestamp::from_unix_micros),
                until: self.until.map(Timestamp::from_unix_micros),
                ..Filter::default()
            },
        })
    }

    fn state(&self) -> Result<ReplayState, StoreError> {
        let at = || {
            let micros = self
                .finished_at
                .ok_or_else(|| corrupt("finished_at", "null"))?;
            Ok::<_, StoreError>(Timestamp::from_unix_micros(micros))
        };
        let reason = self.reason.as_deref().unwrap_or_default();
        match self.state.as_str() {
            RUNNING => Ok(ReplayState::Running),
            FINISHED => Ok(ReplayState::Finished { at: at()? }),
            CANCELLED => Ok(ReplayState::Cancelled {
                at: at()?,
                why: read_name("reason", reason)?,
            }),
            other => Err(corrupt("state", other)),
        }
    }
}

impl TryFrom<ReplayRow> for Replay {
    type Error = StoreError;

    fn try_from(row: ReplayRow) -> Result<Self, StoreError> {
        Ok(Replay {
            id: ReplayId(row.id.0),
            target: row.target()?,
            filter: row.filter()?,
            state: row.state()?,
            expected: row.expected.unsigned_abs(),
            replayed: row.replayed.unsigned_abs(),
            created_at: Timestamp::from_unix_micros(row.created_at),
        })
    }
}

backends!(
    with {
        subscription_queries: crate::subscriptions::sql,
        own: crate::replays,
    }

    use backend::{Conn, Db};
    use subscription_queries::find_row;

    pub(crate) fn start(
        conn: &mut Conn,
        new: &NewReplay,
        now: Timestamp,
    ) -> Result<ReplayOutcome, StoreError> {
        let scope = &new.scope;
        let owner = scope.organization.as_str();
        conn.transaction(|conn| {
            own::lock_limit(conn, owner)?;
            if let Some(id) = scope.target.subscription() {
                match find_row(conn, &scope.organization, id)? {
                    None => return Ok(ReplayOutcome::Unknown),
                    Some(row) if !row.is_active => return Ok(ReplayOutcome::Inactive),
                    Some(_) => {}
                }
            }
            let running: i64 = replays::table
                .filter(replays::organization_id.eq(owner))
                // The same text as in the partial index.
                .filter(sql::<Bool>("replays.state = 'running'"))
                .count()
                .get_result(conn)?;
            if running >= i64::from(new.max_running) {
                return Ok(ReplayOutcome::TooMany);
            }
            let kind = match scope.target {
                ReplayTarget::Organization | ReplayTarget::Subscription(_) => DELIVERIES,
                ReplayTarget::Missing(_) => MISSING,
            };
            diesel::insert_into(replays::table)
                .values((
                    replays::id.eq(UuidKey(new.id.0)),
                    replays::organization_id.eq(owner),
                    replays::kind.eq(kind),
                    replays::subscription_id.eq(scope.target.subscription().map_or(0, |id| id.0)),
                    replays::wanted.eq(IN_FILTER),
                    replays::filter.eq(scope.filter.to_json().to_string()),
                    replays::expected.eq(i64::try_from(new.expected).unwrap_or(i64::MAX)),
                    replays::replayed.eq(0),
                    replays::lease.eq(0),
                    replays::next_step_at.eq(now.unix_micros()),
                    replays::state.eq(RUNNING),
                    replays::created_at.eq(now.unix_micros()),
                ))
                .execute(conn)?;
            Ok(ReplayOutcome::Deliveries(new.expected))
        })
    }

    pub(crate) fn find(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: ReplayId,
    ) -> Result<Option<Replay>, StoreError> {
        let row: Option<ReplayRow> = replays::table
            .filter(replays::id.eq(UuidKey(id.0)))
            .filter(replays::organization_id.eq(owner.as_str()))
            .select(ReplayRow::as_select())
            .first(conn)
            .optional()?;
        row.map(Replay::try_from).transpose()
    }

    pub(crate) fn list(
        conn: &mut Conn,
        query: &ReplayQuery,
    ) -> Result<ResultPage<Replay, Option<u64>>, StoreError> {
        let owner = query.organization.as_str();
        let mut rows = replays::table
            .filter(replays::organization_id.eq(owner))
            .into_boxed();
        if let Some(SubscriptionId(id)) = query.subscription {
            rows = rows.filter(replays::subscription_id.eq(id));
        }
        let (after, offset) = match query.start {
            PageStart::Cursor(cursor) => (Some(cursor), 0),
            PageStart::Offset(offset) => (None, i64::try_from(offset).unwrap_or(i64::MAX)),
        };
        let rows: Vec<ReplayRow> = stretched!(rows, replays, Stretch::of(after, None, None))
            .order((replays::created_at.desc(), replays::id.desc()))
            .offset(offset)
            .limit(i64::from(query.limit))
            .select(ReplayRow::as_select())
            .load(conn)?;
        let rows = rows.into_iter().map(Replay::try_from);
        Ok(ResultPage {
            rows: rows.collect::<Result<_, _>>()?,
            total: total(conn, query)?,
            searched: None,
        })
    }

    fn total(conn: &mut Conn, query: &ReplayQuery) -> Result<Option<u64>, StoreError> {
        let mut counted = RawQuery::<Db>::default();
        counted
            .sql("SELECT count(*) AS rows FROM (SELECT 1 FROM replays WHERE organization_id = ")
            .bind::<Text, _>(query.organization.as_str());
        if let Some(SubscriptionId(id)) = query.subscription {
            counted
                .sql(" AND subscription_id = ")
                .bind::<BigInt, _>(id);
        }
        counted.sql(format!(" LIMIT {}) counted", COUNTED + 1));
        let count: Count = counted.get_result(conn)?;
        Ok((count.rows <= COUNTED).then_some(count.rows.unsigned_abs()))
    }

    /// A step that is under way restarts no further delivery.
    pub(crate) fn cancel(
        conn: &mut Conn,
        owner: &OrganizationId,
        id: ReplayId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        conn.transaction(|conn| {
            let known = find(conn, owner, id)?.is_some();
            if known {
                end(conn, UuidKey(id.0), Some(ReplayEndReason::Requested), now)?;
            }
            Ok(known)
        })
    }

    /// Ends a running replay; cancelled if there is a reason.
    pub(crate) fn end(
        conn: &mut Conn,
        id: UuidKey,
        why: Option<ReplayEndReason>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let state = match why {
            None => FINISHED,
            Some(_) => CANCELLED,
        };
        diesel::update(replays::table.find(id))
            .filter(replays::state.eq(RUNNING))
            .set((
                replays::state.eq(state),
                replays::reason.eq(why.map(ReplayEndReason::as_str)),
                replays::finished_at.eq(now.unix_micros()),
                replays::next_step_at.eq(None::<i64>),
            ))
            .execute(conn)?;
        Ok(())
    }

    /// Forgets replays that ended before `cutoff`.
    pub(crate) fn forget(conn: &mut Conn, cutoff: Timestamp) -> Result<(), StoreError> {
        diesel::delete(replays::table)
            .filter(replays::finished_at.lt(cutoff.unix_micros()))
            .execute(conn)?;
        Ok(())
    }
);
