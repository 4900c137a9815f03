//! Ends of deliveries without an attempt.

use std::collections::{BTreeMap, HashMap};

use diesel::prelude::*;
use hookline_core::delivery::{AttemptTask, DeliveryState};

use crate::backend::{ROWS, backends};
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::rollup::cell::{Cell, StatsOutcome};
use crate::rollup::{Tallies, TallyKey, minute_of};
use crate::rows::{StateColumns, signed};
use crate::schema::{deliveries, events};
use crate::store::{Store, run};

impl Store {
    /// Ends deliveries without an attempt, where they are pending in that generation.
    pub async fn end(&self, tasks: Vec<AttemptTask>, end: DeliveryState) -> Result<(), StoreError> {
        let shard = self.rollup_shard;
        run!(self, write, |conn, q: self| q::end(
            conn, &tasks, end, shard
        ))
        .map(drop)
    }
}

/// Organization, subscription and event of a delivery that has ended.
type EndedRow = (String, i64, UuidKey);

backends!(
    with {
        own: crate::deliveries,
        rollup: crate::rollup,
    }

    use backend::Conn;

    /// Answers with the number that it ended. The roll-up counts them in the same transaction.
    pub(crate) fn end(
        conn: &mut Conn,
        tasks: &[AttemptTask],
        end: DeliveryState,
        shard: i32,
    ) -> Result<usize, StoreError> {
        let mut by_generation: BTreeMap<i32, Vec<UuidKey>> = BTreeMap::new();
        for one in tasks {
            let keys = by_generation.entry(signed(one.generation)).or_default();
            keys.push(UuidKey(one.delivery.0));
        }
        let StateColumns {
            state,
            due,
            finished_at,
            exhausted_reason,
        } = end.into();
        let mut keys: Vec<UuidKey> = tasks.iter().map(|one| UuidKey(one.delivery.0)).collect();
        keys.sort_unstable();
        conn.transaction(|conn| {
            for chunk in keys.chunks(ROWS) {
                own::lock(conn, chunk)?;
            }
            let mut ended: Vec<EndedRow> = Vec::with_capacity(tasks.len());
            for (generation, keys) in by_generation {
                for chunk in keys.chunks(ROWS) {
                    let rows: Vec<EndedRow> = diesel::update(deliveries::table)
                        .filter(deliveries::id.eq_any(chunk))
                        .filter(deliveries::state.eq("pending"))
                        .filter(deliveries::generation.eq(generation))
                        .set((
                            deliveries::state.eq(state),
                            deliveries::due.eq(due),
                            deliveries::finished_at.eq(finished_at),
                            deliveries::exhausted_reason.eq(exhausted_reason),
                        ))
                        .returning((
                            deliveries::organization_id,
                            deliveries::subscription_id,
                            deliveries::event_key,
                        ))
                        .get_results(conn)?;
                    ended.extend(rows);
                }
            }
            if let Some((outcome, at)) = StatsOutcome::of(end).zip(finished_at) {
                count_ends(conn, &ended, Cell::without_attempt(outcome), at, shard)?;
            }
            Ok(ended.len())
        })
    }

    /// Counts ends without an attempt. An event that is not there has no type to count by.
    fn count_ends(
        conn: &mut Conn,
        ended: &[EndedRow],
        cell: Cell,
        at: i64,
        shard: i32,
    ) -> Result<(), StoreError> {
        let mut keys: Vec<UuidKey> = ended.iter().map(|(_, _, event)| *event).collect();
        keys.sort_unstable();
        keys.dedup();
        let mut types: HashMap<UuidKey, String> = HashMap::with_capacity(keys.len());
        for among in own::events_among(&keys) {
            let rows: Vec<(UuidKey, String)> = events::table
                .filter(among)
                .select((events::key, events::event_type))
                .load(conn)?;
            types.extend(rows);
        }
        let mut tallies = Tallies::default();
        for (organization_id, subscription_id, event) in ended {
            if let Some(event_type) = types.get(event) {
                tallies.count(TallyKey {
                    organization_id,
                    subscription_id: *subscription_id,
                    at: minute_of(at),
                    event_type,
                    cell: cell.pack(),
                });
            }
        }
        rollup::add(conn, &tallies, shard)
    }
);
