//! Queries of replays for their owner.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::cursor::Cursor;
use hookline_core::delivery::DeliveryKind;
use hookline_core::event_type::EventType;
use hookline_core::ids::{OrganizationId, ReplayId, SubscriptionId};
use hookline_core::replay::ReplayFilter;
use hookline_core::timestamp::Timestamp;

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::deliveries::Restart;
use crate::error::StoreError;
use crate::paging::{RowPosition, Stretch, WINDOW, stretched};
use crate::replays::{NewReplay, Replay, ReplayEndReason, ReplayOutcome, ReplayScope, ReplayState};
use crate::rows::{corrupt, list_text, read_event_type, read_list, read_name};
use crate::schema::{deliveries, events, replays};

pub(crate) const RUNNING: &str = "running";

pub(crate) const FINISHED: &str = "finished";

pub(crate) const CANCELLED: &str = "cancelled";

#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = replays)]
pub(crate) struct ReplayRow {
    pub(crate) id: UuidKey,
    pub(crate) subscription_id: i64,
    pub(crate) wanted: String,
    pub(crate) event_types: Option<String>,
    pub(crate) since: Option<i64>,
    pub(crate) until: Option<i64>,
    pub(crate) expected: i64,
    pub(crate) replayed: i64,
    pub(crate) cursor_at: Option<i64>,
    pub(crate) cursor_id: Option<UuidKey>,
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) finished_at: Option<i64>,
}

impl ReplayRow {
    pub(crate) fn filter(&self) -> Result<ReplayFilter, StoreError> {
        let event_types = self.event_types.as_deref();
        let event_types = event_types.map(|text| read_list(text, read_event_type));
        Ok(ReplayFilter {
            wanted: read_name("wanted", &self.wanted)?,
            event_types: event_types.transpose()?,
            since: self.since.map(Timestamp::from_unix_micros),
            until: self.until.map(Timestamp::from_unix_micros),
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
            subscription: SubscriptionId(row.subscription_id),
            filter: row.filter()?,
            state: row.state()?,
            expected: row.expected.unsigned_abs(),
            replayed: row.replayed.unsigned_abs(),
            created_at: Timestamp::from_unix_micros(row.created_at),
        })
    }
}

/// The creation times of its deliveries. A replay does not include deliveries that are newer than itself.
pub(crate) fn span(filter: &ReplayFilter, made: Timestamp) -> (i64, i64) {
    let since = filter.since.map_or(i64::MIN, Timestamp::unix_micros);
    let until = filter.until.map_or(i64::MAX, Timestamp::unix_micros);
    (since, until.min(made.unix_micros()))
}

/// The states in which a delivery of an earlier activation counts as skipped.
fn void_states(wanted: &[&str]) -> &'static [&'static str] {
    match wanted.contains(&Restart::VOID) {
        true => &["pending"],
        false => &[],
    }
}

backends!(
    with {
        delivery_queries: crate::deliveries::sql,
        subscription_queries: crate::subscriptions::sql,
        own: crate::replays,
    }

    use backend::Conn;
    use delivery_queries::nth;
    use subscription_queries::find_row;

    /// Counts the deliveries that a replay would restart, in one window after `after`; and the end of the window where there
    /// are more.
    pub(crate) fn count(
        conn: &mut Conn,
        scope: &ReplayScope,
        now: Timestamp,
        after: Option<Cursor>,
    ) -> Result<(ReplayOutcome, Option<RowPosition>), StoreError> {
        let Some(subscription) = find_row(conn, &scope.organization, scope.subscription)? else {
            return Ok((ReplayOutcome::Unknown, None));
        };
        if !subscription.is_active {
            return Ok((ReplayOutcome::Inactive, None));
        }
        let filter = &scope.filter;
        let until = filter.until.map_or(now, |until| until.min(now));
        let stretch = Stretch::of(after, filter.since, Some(until));
        let end = nth(conn, scope.subscription, stretch, WINDOW)?;
        let stretch = stretch.down_to(end);
        let wanted = filter.wanted.states();
        let void = deliveries::state
            .eq_any(void_states(wanted))
            .and(deliveries::activation.ne(subscription.activation));
        let matching = deliveries::table
            .filter(deliveries::subscription_id.eq(scope.subscription.0))
            .filter(deliveries::origin.eq(DeliveryKind::Event.as_str()))
            .filter(deliveries::state.eq_any(wanted).or(void));
        let count: i64 = match &filter.event_types {
            None => stretched!(matching.into_boxed(), deliveries, stretch)
                .count()
                .get_result(conn)?,
            Some(types) => {
                let names: Vec<&str> = types.iter().map(EventType::as_str).collect();
                let of_types = matching
                    .inner_join(events::table)
                    .filter(events::event_type.eq_any(names))
                    .into_boxed();
                stretched!(of_types, deliveries, stretch)
                    .count()
                    .get_result(conn)?
            }
        };
        Ok((ReplayOutcome::Deliveries(count.unsigned_abs()), end))
    }

    pub(crate) fn start(
        conn: &mut Conn,
        new: &NewReplay,
        now: Timestamp,
    ) -> Result<ReplayOutcome, StoreError> {
        let scope = &new.scope;
        let owner = scope.organization.as_str();
        conn.transaction(|conn| {
            own::lock_limit(conn, owner)?;
            let Some(subscription) = find_row(conn, &scope.organization, scope.subscription)?
            else {
                return Ok(ReplayOutcome::Unknown);
            };
            if !subscription.is_active {
                return Ok(ReplayOutcome::Inactive);
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
            let filter = &scope.filter;
            diesel::insert_into(replays::table)
                .values((
                    replays::id.eq(UuidKey(new.id.0)),
                    replays::organization_id.eq(owner),
                    replays::subscription_id.eq(scope.subscription.0),
                    replays::wanted.eq(filter.wanted.as_str()),
                    replays::event_types.eq(filter.event_types.as_ref().map(list_text)),
                    replays::since.eq(filter.since.map(Timestamp::unix_micros)),
                    replays::until.eq(filter.until.map(Timestamp::unix_micros)),
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
