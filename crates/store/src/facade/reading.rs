//! The log, deliveries and events, for whoever asks what became of them.

use hookline_core::cursor::Cursor;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId};

use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{
    Delivery, DeliveryQuery, DeliveryStory, EventStory, Listing, LogEntry, LogQuery,
};
use crate::{postgres, sqlite};

#[expect(
    clippy::missing_errors_doc,
    reason = "all fail alike: the store is unavailable, or refuses"
)]
impl Store {
    /// A part of the log.
    pub async fn log(&self, query: LogQuery) -> Result<Listing<LogEntry>, StoreError> {
        run!(self, read, |conn, q| q::log::page(conn, &query))
    }

    /// A part of a subscription's deliveries, newest first.
    pub async fn deliveries(&self, query: DeliveryQuery) -> Result<Listing<Delivery>, StoreError> {
        run!(self, read, |conn, q| q::deliveries::page(conn, &query))
    }

    /// One of an organization's deliveries with so many of its attempts at most: the newest, or those
    /// before `after`.
    pub async fn delivery(
        &self,
        owner: OrganizationId,
        id: DeliveryId,
        limit: u32,
        after: Option<Cursor>,
    ) -> Result<Option<DeliveryStory>, StoreError> {
        run!(self, read, |conn, q| q::deliveries::find(
            conn, &owner, id, limit, after
        ))
    }

    /// One of an organization's events, and what became of it.
    pub async fn event(
        &self,
        owner: OrganizationId,
        id: EventId,
    ) -> Result<Option<EventStory>, StoreError> {
        run!(self, read, |conn, q| q::event_story::find(
            conn, &owner, &id
        ))
    }
}
