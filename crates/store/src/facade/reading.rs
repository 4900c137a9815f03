//! The log, deliveries and events, as the API reads them.

use hookline_core::cursor::Cursor;
use hookline_core::ids::{DeliveryId, EventId, OrganizationId};

use super::searching::{COUNT_STEPS, count, search};
use super::{Home, Store, run};
use crate::error::StoreError;
use crate::records::{
    Delivery, DeliveryQuery, DeliveryStory, EventStory, FatePage, Listing, LogEntry, LogQuery,
};
use crate::{postgres, sqlite};

impl Store {
    /// A part of the log.
    pub async fn log(&self, query: LogQuery) -> Result<Listing<LogEntry, u64>, StoreError> {
        let total = self.log_total(&query).await?;
        if total == 0 {
            // To find nothing, everything would be read.
            return Ok(Listing {
                rows: Vec::new(),
                total,
                searched: None,
            });
        }
        let step = async |reach| {
            let query = query.clone();
            run!(self, read, |conn, q| q::log::page(conn, &query, reach))
        };
        let (rows, searched) = search(query.start, query.limit, step).await?;
        let room = query.body_bytes;
        let rows = run!(self, read, |conn, q| q::log::entries(conn, rows, room))?;
        Ok(Listing {
            rows,
            total,
            searched,
        })
    }

    async fn log_total(&self, query: &LogQuery) -> Result<u64, StoreError> {
        let (mut total, mut after) = (0, None);
        loop {
            let (query, from) = (query.clone(), after);
            let (sum, end) = run!(self, read, |conn, q| q::log_totals::sum(
                conn,
                &query,
                from.as_ref()
            ))?;
            total += sum;
            if end.is_none() {
                return Ok(total);
            }
            after = end;
        }
    }

    /// A part of a subscription's deliveries, newest first. No total is known where a filter of status or type would
    /// have more than 100,000 deliveries looked at.
    pub async fn deliveries(
        &self,
        query: DeliveryQuery,
    ) -> Result<Listing<Delivery, Option<u64>>, StoreError> {
        let steps = match query.is_filtered() {
            true => COUNT_STEPS,
            false => usize::MAX,
        };
        let total = count(steps, async |after| {
            let query = query.clone();
            run!(self, read, |conn, q| q::deliveries::count(
                conn, &query, after
            ))
        });
        let total = total.await?;
        let step = async |reach| {
            let query = query.clone();
            run!(self, read, |conn, q| q::deliveries::page(
                conn, &query, reach
            ))
        };
        let (rows, searched) = search(query.start, query.limit, step).await?;
        Ok(Listing {
            rows,
            total,
            searched,
        })
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
        run!(self, read, |conn, q| q::delivery_story::find(
            conn, &owner, id, limit, after
        ))
    }

    /// One of an organization's events, and a page of what became of it.
    pub async fn event(
        &self,
        owner: OrganizationId,
        id: EventId,
        page: FatePage,
    ) -> Result<Option<EventStory>, StoreError> {
        run!(self, read, |conn, q| q::event_story::find(
            conn, &owner, &id, page
        ))
    }
}
