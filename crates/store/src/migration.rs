//! Migration of the schema.

use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Backend, Store};

impl Store {
    /// Brings the schema up to date. SQLite does so whenever it is opened.
    pub async fn migrate(&self, now: Timestamp) -> Result<(), StoreError> {
        if let Backend::Postgres(backend) = &self.backend {
            backend.migrate().await?;
        }
        self.prepare_days(now).await
    }
}
