//! Outbox of operational events: written with the change that each reports, published afterwards.

use hookline_core::ids::OperationalEventId;
use hookline_core::operational_events::WebhookDisabled;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod sql;

impl Store {
    /// Some unpublished events, oldest first; empty means that there are no more.
    pub async fn unpublished_operational_events(&self) -> Result<Vec<WebhookDisabled>, StoreError> {
        run!(self, read, |conn, q: sql| {
            q::unpublished_operational_events(conn)
        })
    }

    /// Deletes these events from the outbox.
    pub async fn mark_published(&self, ids: Vec<OperationalEventId>) -> Result<(), StoreError> {
        run!(self, write, |conn, q: sql| q::forget(conn, &ids))
    }
}
