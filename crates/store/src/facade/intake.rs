//! Events, for whoever takes them in.

use std::collections::HashSet;
use std::sync::Arc;

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::fanout_index::FanoutIndex;
use crate::records::{Bounds, Given, IncomingEvent, Making};
use crate::{postgres, sqlite};

impl Store {
    /// Makes a test event and its delivery to one subscription; none when there is no such one in
    /// the event's organization.
    pub async fn create_test(
        &self,
        id: SubscriptionId,
        event: IncomingEvent,
        making: impl Into<Making<Option<OwedAttempt>>>,
    ) -> Result<Option<OwedAttempt>, StoreError> {
        let Making { now, once } = making.into();
        run!(self, write, |conn, q| q::repeats::once(
            conn,
            once,
            |conn| { q::intake::create_test(conn, id, &event, now) }
        ))
    }

    /// Takes events in and fans them out, in one transaction, however many deliveries they make.
    pub async fn take_in(
        &self,
        index: &FanoutIndex,
        events: Arc<[IncomingEvent]>,
        now: Timestamp,
    ) -> Result<Given, StoreError> {
        let given = self.take_in_at_most(index, events, usize::MAX, now).await?;
        Ok(given.unwrap_or_default())
    }

    /// The same, unless several events would make more deliveries than `most`. Nothing is taken in
    /// then, and the answer is none: fewer events at a time are, for `index` knows by then how many
    /// deliveries each of them makes.
    pub async fn take_in_at_most(
        &self,
        index: &FanoutIndex,
        events: Arc<[IncomingEvent]>,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<Given>, StoreError> {
        let index = index.clone();
        let bounds = Bounds { now, most };
        match &self.home {
            Home::Postgres(home) => {
                home.run(move |conn| postgres::intake::take_in(conn, &index, &events, bounds))
                    .await
            }
            Home::Sqlite(home) => {
                let asked = home.clone();
                home.write(move |conn| {
                    index.believe(asked.failures());
                    sqlite::queries::intake::take_in(conn, &index, &events, bounds)
                })
                .await
            }
        }
    }

    /// How many bytes of events are kept of an organization.
    pub async fn stored_bytes(&self, owner: OrganizationId) -> Result<u64, StoreError> {
        run!(self, read, |conn, q| q::stored::of(conn, &owner))
    }

    /// The organizations of which so many bytes of events are kept, or more.
    pub async fn stored_at_least(&self, bytes: u64) -> Result<HashSet<OrganizationId>, StoreError> {
        run!(self, read, |conn, q| q::stored::at_least(conn, bytes))
    }
}
