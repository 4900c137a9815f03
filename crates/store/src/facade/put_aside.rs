//! Deliveries that were put aside.

use hookline_core::delivery::OwedAttempt;
use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use super::{Home, Store, run};
use crate::columns::Key;
use crate::error::StoreError;
use crate::records::PutAside;
use crate::{postgres, sqlite};

impl Store {
    /// Ends a delivery that cannot be handled as exhausted by poison and keeps the reason, in one transaction, where
    /// the delivery is still pending in that generation. Its own row may be at fault, so a failure says nothing of
    /// the store or of its other connections.
    pub async fn put_aside(
        &self,
        owed: OwedAttempt,
        reason: String,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match &self.home {
            Home::Postgres(home) => {
                home.run_unobserved(move |conn| {
                    postgres::queries::put_aside::put(conn, owed, &reason, now)
                })
                .await
            }
            Home::Sqlite(home) => {
                home.write(move |conn| sqlite::queries::put_aside::put(conn, owed, &reason, now))
                    .await
            }
        }
    }

    /// Some deliveries that were put aside after this one, oldest first.
    pub async fn put_aside_deliveries(
        &self,
        after: Option<(Timestamp, DeliveryId)>,
        max: u32,
    ) -> Result<Vec<PutAside>, StoreError> {
        run!(self, read, |conn, q| q::put_aside::page(conn, after, max))
    }

    /// This delivery, if it is put aside.
    pub async fn find_put_aside(&self, id: DeliveryId) -> Result<Option<PutAside>, StoreError> {
        run!(self, read, |conn, q| q::put_aside::find(conn, id))
    }

    /// How many deliveries are put aside.
    pub async fn count_put_aside(&self) -> Result<u64, StoreError> {
        run!(self, read, |conn, q| q::put_aside::count(conn))
    }

    /// Lists a delivery no longer as put aside; it stays exhausted. False where it was not put aside.
    pub async fn drop_put_aside(&self, id: DeliveryId) -> Result<bool, StoreError> {
        let removed = run!(self, write, |conn, q| q::put_aside::remove(
            conn,
            &[Key(id.0)]
        ))?;
        Ok(removed > 0)
    }
}
