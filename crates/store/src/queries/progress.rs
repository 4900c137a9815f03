//! What a dispatcher asks and says: what is owed, what it carries, and what came of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use diesel::dsl::case_when;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use hookline_core::delivery::{DeliveryState, GaveUp, Origin, OwedAttempt, Trigger};
use hookline_core::ids::{AttemptId, DeliveryId, EventKey, OrganizationId, SubscriptionId};
use hookline_core::subscription::DisabledReason;
use hookline_core::target::TargetUrl;
use hookline_core::timestamp::Timestamp;
use hookline_core::trace::TraceParent;

use super::super::{Conn, bulk};
use super::ROWS;
use super::failing;
use super::subscriptions::{Disabling, disable, next_version};
use crate::columns::Key;
use crate::credentials::SealedCredentials;
use crate::error::StoreError;
use crate::records::{AttemptRecord, AttemptStatus, Body, Follow, Loaded, Owed, Parked, Standings};
use crate::rows::{
    AttemptRow, StateColumns, organization, read_event_type, read_origin, read_run, read_state,
    trigger_name,
};
use crate::schema::{attempt_counts, deliveries, events, subscriptions};

/// A delivery's move to its next attempt or its end.
pub(crate) struct Move {
    pub(crate) id: Key,
    pub(crate) generation: i32,
    pub(crate) attempt: i32,
    pub(crate) to: StateColumns,
}

#[derive(Queryable)]
struct OwedRow {
    id: Key,
    organization_id: String,
    subscription_id: i64,
    event_key: Key,
    event_type: String,
    origin: String,
    made_in: i64,
    generation: i32,
    attempts: i32,
    attempts_before: i32,
    cause: String,
    is_parked: bool,
    state: String,
    due: Option<i64>,
    finished_at: Option<i64>,
    gave_up: Option<String>,
    url: String,
    secret: Option<Vec<u8>>,
    previous_secret: Option<Vec<u8>>,
    previous_until: Option<i64>,
    headers: Vec<u8>,
    is_active: bool,
    activation: i64,
    deleted_at: Option<i64>,
}

/// So few are loaded with their bodies at once, whoever knows them already.
const FEW: usize = 8;

#[derive(Clone, Copy)]
enum Bodies {
    ComeAlong,
    StayBehind,
}

/// A body that has come along, and its publisher's trace.
type BodyRow = (Option<Vec<u8>>, Option<String>);

fn body(bytes: Vec<u8>, traceparent: Option<&str>) -> Body {
    Body {
        bytes: bytes.into(),
        trace: traceparent.and_then(TraceParent::parse),
    }
}

pub(crate) fn load(
    conn: &mut Conn,
    ids: &[DeliveryId],
) -> Result<HashMap<DeliveryId, Owed>, StoreError> {
    Ok(load_and(conn, ids, Bodies::StayBehind)?.owed)
}

fn load_and(conn: &mut Conn, ids: &[DeliveryId], bodies: Bodies) -> Result<Loaded, StoreError> {
    let come_along = matches!(bodies, Bodies::ComeAlong);
    let mut loaded = Loaded {
        owed: HashMap::with_capacity(ids.len()),
        bodies: HashMap::new(),
    };
    for chunk in ids.chunks(ROWS) {
        let keys: Vec<Key> = chunk.iter().map(|id| Key(id.0)).collect();
        let rows: Vec<(OwedRow, BodyRow)> = deliveries::table
            .inner_join(subscriptions::table)
            .inner_join(events::table)
            .filter(deliveries::id.eq_any(keys))
            .select((
                (
                    deliveries::id,
                    deliveries::organization_id,
                    deliveries::subscription_id,
                    deliveries::event_key,
                    events::event_type,
                    deliveries::origin,
                    deliveries::activation,
                    deliveries::generation,
                    deliveries::attempts,
                    deliveries::attempts_before,
                    deliveries::cause,
                    deliveries::is_parked,
                    deliveries::state,
                    deliveries::due,
                    deliveries::finished_at,
                    deliveries::gave_up,
                    subscriptions::url,
                    subscriptions::secret,
                    subscriptions::previous_secret,
                    subscriptions::previous_until,
                    subscriptions::headers,
                    subscriptions::is_active,
                    subscriptions::activation,
                    subscriptions::deleted_at,
                ),
                (
                    case_when(come_along.into_sql::<Bool>(), events::body),
                    events::traceparent,
                ),
            ))
            .load(conn)?;
        for (row, (bytes, traceparent)) in rows {
            if let Some(bytes) = bytes {
                let event = EventKey(row.event_key.0);
                loaded
                    .bodies
                    .insert(event, body(bytes, traceparent.as_deref()));
            }
            loaded.owed.insert(DeliveryId(row.id.0), row.try_into()?);
        }
    }
    Ok(loaded)
}

impl TryFrom<OwedRow> for Owed {
    type Error = StoreError;

    fn try_from(row: OwedRow) -> Result<Self, StoreError> {
        let origin = read_origin(&row.origin)?;
        let standings = Standings {
            origin,
            made_in: row.made_in,
            activation: row.activation,
            is_active: row.is_active,
            is_deleted: row.deleted_at.is_some(),
        };
        Ok(Owed {
            generation: row.generation.unsigned_abs(),
            attempts: row.attempts.unsigned_abs(),
            run: read_run(&row.cause, row.attempts_before)?,
            state: read_state(&row.state, row.due, row.finished_at, row.gave_up.as_deref())?,
            origin,
            was_parked: row.is_parked,
            event: EventKey(row.event_key.0),
            event_type: read_event_type(&row.event_type)?,
            organization: organization(&row.organization_id)?,
            subscription: SubscriptionId(row.subscription_id),
            standing: standings.into(),
            url: TargetUrl::from_store(row.url),
            sealed: SealedCredentials {
                subscription: row.subscription_id,
                secret: row.secret,
                previous: row.previous_secret.zip(row.previous_until),
                headers: row.headers,
            },
        })
    }
}

pub(crate) fn load_with_bodies(
    conn: &mut Conn,
    ids: &[DeliveryId],
    wants_body: impl Fn(&Owed) -> bool,
) -> Result<Loaded, StoreError> {
    if ids.len() <= FEW {
        return load_and(conn, ids, Bodies::ComeAlong);
    }
    let owed = load(conn, ids)?;
    let wanted = owed.values().filter(|owed| wants_body(owed));
    let mut events: Vec<EventKey> = wanted.map(|owed| owed.event).collect();
    events.sort_unstable();
    events.dedup();
    let bodies = bodies(conn, &events)?;
    Ok(Loaded { owed, bodies })
}

pub(crate) fn bodies(
    conn: &mut Conn,
    keys: &[EventKey],
) -> Result<HashMap<EventKey, Body>, StoreError> {
    let mut found = HashMap::with_capacity(keys.len());
    for chunk in keys.chunks(ROWS) {
        let keys: Vec<Key> = chunk.iter().map(|key| Key(key.0)).collect();
        let rows: Vec<(Key, Vec<u8>, Option<String>)> = events::table
            .filter(events::key.eq_any(keys))
            .select((events::key, events::body, events::traceparent))
            .load(conn)?;
        for (key, bytes, traceparent) in rows {
            found.insert(EventKey(key.0), body(bytes, traceparent.as_deref()));
        }
    }
    Ok(found)
}

/// Moves each delivery on and logs its attempt, where nobody has done so before. Answers with the
/// deliveries that moved; of the others nothing is written.
pub(crate) fn record(
    conn: &mut Conn,
    records: &[AttemptRecord],
    writer: i32,
) -> Result<HashSet<DeliveryId>, StoreError> {
    conn.transaction(|conn| {
        let moves: Vec<Move> = records.iter().map(move_of).collect();
        let moved: HashSet<Key> = bulk::move_deliveries(conn, &moves)?.into_iter().collect();
        let fresh: Vec<&AttemptRecord> = records
            .iter()
            .filter(|record| moved.contains(&Key(record.owed.delivery.0)))
            .collect();
        let rows: Vec<AttemptRow> = fresh.iter().map(|record| row_of(record)).collect();
        bulk::insert_attempts(conn, &rows)?;
        count(conn, &rows, writer)?;
        judge(conn, &fresh)?;
        Ok(moved.into_iter().map(|key| DeliveryId(key.0)).collect())
    })
}

/// What follows for the subscriptions of deliveries that have ended here: once for each, however
/// many there are, and in one order, like everything that takes locks.
fn judge(conn: &mut Conn, fresh: &[&AttemptRecord]) -> Result<(), StoreError> {
    let mut gone: BTreeMap<SubscriptionId, Timestamp> = BTreeMap::new();
    let mut exhausted: BTreeMap<SubscriptionId, &OrganizationId> = BTreeMap::new();
    for record in fresh {
        match (record.follow, record.origin) {
            (Follow::Exhausted(GaveUp::Gone), _) => {
                let at = record.started.after(record.took);
                gone.entry(record.subscription).or_insert(at);
            }
            (Follow::Exhausted(_), Origin::Event) => {
                exhausted.insert(record.subscription, &record.organization);
            }
            (Follow::Exhausted(_), Origin::Test)
            | (Follow::Delivered | Follow::Again { .. }, _) => {}
        }
    }
    if !gone.is_empty() {
        let version = next_version(conn)?;
        for (subscription, at) in gone {
            let disabling = Disabling {
                subscription,
                reason: DisabledReason::Gone,
                at,
            };
            disable(conn, disabling, version)?;
        }
    }
    failing::note(conn, &exhausted)
}

fn move_of(record: &AttemptRecord) -> Move {
    let at = record.started.after(record.took);
    let to = match record.follow {
        Follow::Delivered => DeliveryState::Delivered { at },
        Follow::Again { due } => DeliveryState::Pending { due },
        Follow::Exhausted(why) => DeliveryState::Exhausted { at, why },
    };
    Move {
        id: Key(record.owed.delivery.0),
        generation: signed(record.owed.generation),
        attempt: signed(record.owed.attempt),
        to: to.into(),
    }
}

fn row_of(record: &AttemptRecord) -> AttemptRow {
    let OwedAttempt {
        delivery,
        generation,
        attempt,
        subscription: _,
    } = record.owed;
    let error = record.outcome.error();
    let status = match error {
        None => AttemptStatus::Success,
        Some(_) => AttemptStatus::Failed,
    };
    let (error_kind, error_message) = error.unzip();
    AttemptRow {
        id: Key(AttemptId::of(delivery, generation, attempt).0),
        delivery_id: Key(delivery.0),
        organization_id: record.organization.as_str().to_owned(),
        subscription_id: record.subscription.0,
        event_key: Key(record.event.0),
        event_type: record.event_type.as_str().to_owned(),
        attempt: signed(attempt),
        trigger: trigger_name(Trigger::of(record.origin, record.run, attempt)).to_owned(),
        status: status.as_str().to_owned(),
        url: record.url.as_str().to_owned(),
        response_status: record.outcome.status().map(i32::from),
        response_body: record.outcome.body().map(str::to_owned),
        error_kind: error_kind.map(|kind| kind.as_str().to_owned()),
        error_message,
        duration_ms: i64::try_from(record.took.as_millis()).unwrap_or(i64::MAX),
        created_at: record.started.unix_micros(),
        next_attempt_at: match record.follow {
            Follow::Again { due } => Some(due.unix_micros()),
            Follow::Delivered | Follow::Exhausted(_) => None,
        },
    }
}

#[derive(Insertable)]
#[diesel(table_name = attempt_counts, treat_none_as_default_value = false)]
pub(crate) struct CountRow<'a> {
    pub(crate) organization_id: &'a str,
    pub(crate) subscription_id: i64,
    pub(crate) event_type: &'a str,
    pub(crate) status: &'a str,
    pub(crate) day: i64,
    pub(crate) writer: i32,
    pub(crate) count: i64,
    pub(crate) last_at: i64,
}

/// Adds to the totals, in the order of their keys so that two writers never wait in a circle.
fn count(conn: &mut Conn, rows: &[AttemptRow], writer: i32) -> Result<(), StoreError> {
    type Total<'a> = (&'a str, i64, &'a str, &'a str, i64);
    let mut counts: BTreeMap<Total<'_>, (i64, i64)> = BTreeMap::new();
    for row in rows {
        let day = Timestamp::from_unix_micros(row.created_at).unix_day();
        let owner = row.organization_id.as_str();
        let key = (
            owner,
            row.subscription_id,
            &*row.event_type,
            &*row.status,
            day,
        );
        let (count, last_at) = counts.entry(key).or_insert((0, row.created_at));
        *count += 1;
        *last_at = row.created_at.max(*last_at);
    }
    let rows: Vec<CountRow<'_>> = counts
        .into_iter()
        .map(
            |((organization_id, subscription_id, event_type, status, day), (count, last_at))| {
                CountRow {
                    organization_id,
                    subscription_id,
                    event_type,
                    status,
                    day,
                    writer,
                    count,
                    last_at,
                }
            },
        )
        .collect();
    bulk::add_counts(conn, &rows)
}

/// Ends deliveries without an attempt, where they are still pending and nobody has started them
/// again since.
pub(crate) fn end(
    conn: &mut Conn,
    owed: &[OwedAttempt],
    end: DeliveryState,
) -> Result<(), StoreError> {
    let mut by_generation: BTreeMap<i32, Vec<Key>> = BTreeMap::new();
    for one in owed {
        let keys = by_generation.entry(signed(one.generation)).or_default();
        keys.push(Key(one.delivery.0));
    }
    let StateColumns {
        state,
        due,
        finished_at,
        gave_up,
    } = end.into();
    for (generation, keys) in by_generation {
        for chunk in keys.chunks(ROWS) {
            diesel::update(deliveries::table)
                .filter(deliveries::id.eq_any(chunk))
                .filter(deliveries::state.eq("pending"))
                .filter(deliveries::generation.eq(generation))
                .set((
                    deliveries::state.eq(state),
                    deliveries::due.eq(due),
                    deliveries::finished_at.eq(finished_at),
                    deliveries::gave_up.eq(gave_up),
                ))
                .execute(conn)?;
        }
    }
    Ok(())
}

/// Makes some deliveries due that were put off for want of room: others wait because of a schedule,
/// or because their receiver asked for it.
pub(crate) fn call_back(
    conn: &mut Conn,
    subscription: SubscriptionId,
    count: u32,
    now: Timestamp,
) -> Result<Vec<OwedAttempt>, StoreError> {
    bulk::call_back(conn, subscription, count, now)
}

/// Puts deliveries that are still pending off, each until then, which uses up no attempt.
pub(crate) fn park(conn: &mut Conn, mut parked: Vec<Parked>) -> Result<(), StoreError> {
    parked.sort_unstable_by_key(|one| one.delivery);
    bulk::park_deliveries(conn, &parked)
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
