//! A page of the tail: the places of its rows, and then the rows.

use hookline_core::ids::OrganizationId;

use crate::backend::backends;
use crate::error::StoreError;
use crate::tail::rows::{FoundPlace, in_order};
use crate::tail::{TailPage, TailSpan};

backends!(
    with {
        own: crate::tail,
    }

    use backend::Conn;

    pub(crate) fn page(
        conn: &mut Conn,
        organizations: &[OrganizationId],
        span: &TailSpan,
        limit: usize,
    ) -> Result<TailPage, StoreError> {
        let mut found = own::places(conn, organizations, span, limit)?;
        let full = found.last().filter(|_| found.len() >= limit);
        // What follows is not visible to the snapshot.
        let end = full.map(FoundPlace::log_place);
        let end = end.filter(|end| end.recorded_in < span.seen_by.next);
        // A transaction may have ended since the snapshot was taken.
        found.retain(|row| span.seen_by.sees(row.recorded_in));
        let (changes, attempts): (Vec<_>, Vec<_>) = found.into_iter().partition(|row| row.is_change);
        let attempts = match attempts.is_empty() {
            true => Vec::new(),
            false => own::attempts(conn, &attempts)?,
        };
        let changes = match changes.is_empty() {
            true => Vec::new(),
            false => own::changes(conn, &changes)?,
        };
        Ok(TailPage {
            rows: in_order(attempts, changes),
            end,
        })
    }
);
