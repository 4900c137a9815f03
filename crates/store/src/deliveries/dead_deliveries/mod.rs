//! Dead deliveries: those that no process could handle.

use hookline_core::delivery::AttemptTask;
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::store::{Backend, Store, run};

pub(crate) mod sql;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadDelivery {
    pub delivery: DeliveryId,
    /// At most 4,096 bytes.
    pub reason: String,
    pub since: Timestamp,
}

impl Store {
    /// Ends a pending delivery of that generation as exhausted (`poison`) and stores the reason, in one transaction. The
    /// row itself may be at fault, so an error says nothing about the store or its other connections.
    pub async fn dead_letter_delivery(
        &self,
        task: AttemptTask,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let shard = self.rollup_shard;
        match &self.backend {
            Backend::Postgres(backend) => {
                backend
                    .run_unobserved(move |conn| sql::postgres::put(conn, task, &reason, now, shard))
                    .await
            }
            Backend::Sqlite(backend) => {
                backend
                    .write(move |conn| sql::sqlite::put(conn, task, &reason, now, shard))
                    .await
            }
        }
    }

    /// Some dead deliveries after this one, oldest first.
    pub async fn dead_deliveries(
        &self,
        after: Option<(Timestamp, DeliveryId)>,
        max: u32,
    ) -> Result<Vec<DeadDelivery>, StoreError> {
        run!(self, read, |conn, q: sql| q::page(conn, after, max))
    }

    /// None where the delivery is not dead.
    pub async fn find_dead_delivery(
        &self,
        id: DeliveryId,
    ) -> Result<Option<DeadDelivery>, StoreError> {
        run!(self, read, |conn, q: sql| q::find(conn, id))
    }

    pub async fn count_dead_deliveries(&self) -> Result<u64, StoreError> {
        run!(self, read, |conn, q: sql| q::count(conn))
    }

    /// Removes a delivery from the list; it stays exhausted. False where it was not dead.
    pub async fn drop_dead_delivery(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let removed = run!(self, write, |conn, q: sql| q::remove(
            conn,
            &[UuidKey(id.0)]
        ))?;
        Ok(removed > 0)
    }
}
