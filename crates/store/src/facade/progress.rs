//! Deliveries, for whoever makes their attempts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hookline_core::delivery::{Cause, DeliveryState, OwedAttempt};
use hookline_core::ids::{DeliveryId, EventKey, OrganizationId};

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{Again, AttemptRecord, Body, Loaded, Making, Owed, Source};
use crate::{postgres, sqlite};

impl Store {
    /// What is known of these deliveries; one that is not there is not in the answer.
    pub async fn owed(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, Owed>, StoreError> {
        run!(self, read, |conn, q| q::progress::load(conn, &ids))
    }

    /// The same, with the bodies of the events of those that want one.
    pub async fn owed_with_bodies(
        &self,
        ids: Vec<DeliveryId>,
        wants_body: impl Fn(&Owed) -> bool + Send + 'static,
    ) -> Result<Loaded, StoreError> {
        run!(self, read, |conn, q| q::progress::load_with_bodies(
            conn, &ids, wants_body
        ))
    }

    /// The bodies of these events.
    pub async fn bodies(&self, keys: Vec<EventKey>) -> Result<HashMap<EventKey, Body>, StoreError> {
        run!(self, read, |conn, q| q::progress::bodies(conn, &keys))
    }

    /// Where these deliveries come from; one that is not there is not in the answer.
    pub async fn sources(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, Source>, StoreError> {
        run!(self, read, |conn, q| q::progress::sources(conn, &ids))
    }

    /// Moves deliveries on and logs their attempts, where nobody has done so; answers with those
    /// that moved. A delivery is there once at most.
    pub async fn record(
        &self,
        records: Arc<[AttemptRecord]>,
    ) -> Result<HashSet<DeliveryId>, StoreError> {
        let writer = self.writer;
        run!(self, write, |conn, q| q::recording::record(
            conn, &records, writer
        ))
    }

    /// Ends deliveries without an attempt, where they are still pending and nobody has started
    /// them again since.
    pub async fn end(&self, owed: Vec<OwedAttempt>, end: DeliveryState) -> Result<(), StoreError> {
        run!(self, write, |conn, q| q::progress::end(conn, &owed, end)).map(drop)
    }

    /// Waits until no other session locks a row that a record of an attempt of this delivery writes or refers to. An
    /// error says nothing about the store: a session may hold its lock for long. An embedded store has no locks of rows.
    pub async fn wait_for_lock(&self, delivery: DeliveryId) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run_unobserved(move |conn| postgres::locks::wait_for(conn, delivery))
                    .await
            }
            Home::Sqlite(_) => Ok(()),
        }
    }

    /// Starts a finished delivery again, of any organization without an `owner`: its attempts go
    /// on counting, the schedule begins anew. It is due at once.
    pub async fn start_again(
        &self,
        owner: Option<OrganizationId>,
        id: DeliveryId,
        cause: Cause,
        making: impl Into<Making<Again>>,
    ) -> Result<Again, StoreError> {
        let Making { now, once } = making.into();
        run!(self, write, |conn, q| q::repeats::once(
            conn,
            once,
            |conn| { q::again::start(conn, owner.as_ref(), id, cause, now) }
        ))
    }
}
