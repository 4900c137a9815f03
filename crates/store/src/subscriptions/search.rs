//! Lists of an organization's subscriptions, newest first, all of them or those that a filter selects.
//!
//! The filter runs here and not in SQL, so that both databases compare texts in the same way. A search reads a bounded number
//! of rows, in steps, and only the columns that the filter needs.

use diesel::prelude::*;
use hookline_core::event_type::EventType;
use hookline_core::ids::{OrganizationId, SubscriptionId};
use hookline_core::subscription::Subscription;

use crate::backend::backends;
use crate::error::StoreError;
use crate::rows::known_event_types;
use crate::schema::subscriptions;
use crate::store::{Store, run};
use crate::subscriptions::rows::SubscriptionRow;

/// Rows of one step.
pub(crate) const STEP: u32 = 1_000;

/// The most steps of a search.
const STEPS: usize = 50;

/// An organization with more subscriptions gets no total of a filter.
const COUNTED: u64 = 10_000;

/// A page of an organization's subscriptions, newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionWindow {
    pub limit: u32,
    /// Subscriptions to skip, of those that the filter selects.
    pub offset: u64,
    /// Only subscriptions that are older than this one.
    pub before: Option<SubscriptionId>,
}

/// The subscriptions that satisfy every given condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriptionFilter {
    pub is_active: Option<bool>,
    /// Selected by an entry of `events`; wildcards count.
    pub event_type: Option<EventType>,
    pub name: Option<Substring>,
    pub url: Option<Substring>,
}

/// A part of a text, in any case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Substring(String);

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSubscriptions {
    /// Possibly fewer than the limit, also none, where the search stopped early.
    pub rows: Vec<Subscription>,
    /// Selected subscriptions that the offset skipped.
    pub skipped: u64,
    /// The place where the search stopped early; none at the end of the list.
    pub searched: Option<SubscriptionId>,
}

impl Substring {
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.0)
    }
}

/// The columns that a filter needs.
#[derive(Debug, Queryable, Selectable)]
#[diesel(table_name = subscriptions)]
pub(crate) struct Candidate {
    id: i64,
    name: String,
    url: String,
    events: String,
    is_active: bool,
}

impl SubscriptionFilter {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn selects(&self, row: &Candidate) -> bool {
        let has_type = |event_type| known_event_types(&row.events).contains(event_type);
        self.is_active.is_none_or(|wanted| wanted == row.is_active)
            && self.event_type.is_none_or(has_type)
            && self.name.as_ref().is_none_or(|part| part.is_in(&row.name))
            && self.url.as_ref().is_none_or(|part| part.is_in(&row.url))
    }
}

impl Store {
    pub async fn subscriptions(
        &self,
        owner: OrganizationId,
        filter: &SubscriptionFilter,
        window: SubscriptionWindow,
    ) -> Result<FoundSubscriptions, StoreError> {
        if filter.is_empty() {
            let rows = run!(self, read, |conn, q: self| q::list(conn, &owner, window))?;
            return Ok(FoundSubscriptions {
                rows,
                skipped: window.offset,
                searched: None,
            });
        }
        let limit = usize::try_from(window.limit).unwrap_or(usize::MAX);
        let (mut ids, mut skipped, mut before) = (Vec::new(), 0, window.before);
        let mut steps = 0..STEPS;
        let searched = loop {
            if ids.len() == limit || steps.next().is_none() {
                break before;
            }
            let rows = self.candidates(&owner, before).await?;
            for row in rows.iter().filter(|row| filter.selects(row)) {
                if skipped < window.offset {
                    skipped += 1;
                } else if ids.len() < limit {
                    ids.push(row.id);
                }
            }
            match rows.last() {
                Some(last) if rows.len() >= STEP as usize => before = Some(SubscriptionId(last.id)),
                _ => break None,
            }
        };
        // The rows after the last one of the page are not searched.
        let searched = match ids.last() {
            Some(last) if ids.len() == limit => Some(SubscriptionId(*last)),
            _ => searched,
        };
        let rows = run!(self, read, |conn, q: self| q::with_ids(conn, &owner, ids))?;
        Ok(FoundSubscriptions {
            rows,
            skipped,
            searched,
        })
    }

    /// The number of subscriptions that the filter selects. None where that would need a long search.
    pub async fn count_subscriptions(
        &self,
        owner: OrganizationId,
        filter: &SubscriptionFilter,
    ) -> Result<Option<u64>, StoreError> {
        let all = self.subscription_count(owner.clone()).await?;
        if filter.is_empty() {
            return Ok(Some(all));
        }
        if all > COUNTED {
            return Ok(None);
        }
        let (mut count, mut before) = (0, None);
        loop {
            let rows = self.candidates(&owner, before).await?;
            count += rows.iter().filter(|row| filter.selects(row)).count() as u64;
            match rows.last() {
                Some(last) if rows.len() >= STEP as usize => before = Some(SubscriptionId(last.id)),
                _ => return Ok(Some(count)),
            }
        }
    }

    async fn candidates(
        &self,
        owner: &OrganizationId,
        before: Option<SubscriptionId>,
    ) -> Result<Vec<Candidate>, StoreError> {
        let owner = owner.clone();
        run!(self, read, |conn, q: self| q::candidates(
            conn, &owner, before, STEP
        ))
    }
}

/// An organization's subscriptions before this one, newest first.
macro_rules! newest_first {
    ($owner:expr, $before:expr) => {
        subscriptions::table
            .filter(subscriptions::organization_id.eq($owner.as_str()))
            .filter(subscriptions::deleted_at.is_null())
            .filter(subscriptions::id.lt($before.map_or(i64::MAX, |id: SubscriptionId| id.0)))
            .order(subscriptions::id.desc())
    };
}

backends!(
    with {}

    use backend::Conn;

    pub(crate) fn list(
        conn: &mut Conn,
        owner: &OrganizationId,
        window: SubscriptionWindow,
    ) -> Result<Vec<Subscription>, StoreError> {
        let rows: Vec<SubscriptionRow> = newest_first!(owner, window.before)
            .limit(i64::from(window.limit))
            .offset(i64::try_from(window.offset).unwrap_or(i64::MAX))
            .select(SubscriptionRow::as_select())
            .load(conn)?;
        rows.into_iter().map(Subscription::try_from).collect()
    }

    pub(crate) fn candidates(
        conn: &mut Conn,
        owner: &OrganizationId,
        before: Option<SubscriptionId>,
        limit: u32,
    ) -> Result<Vec<Candidate>, StoreError> {
        Ok(newest_first!(owner, before)
            .limit(i64::from(limit))
            .select(Candidate::as_select())
            .load(conn)?)
    }

    /// Those that were not deleted meanwhile.
    pub(crate) fn with_ids(
        conn: &mut Conn,
        owner: &OrganizationId,
        ids: Vec<i64>,
    ) -> Result<Vec<Subscription>, StoreError> {
        let rows: Vec<SubscriptionRow> = newest_first!(owner, None)
            .filter(subscriptions::id.eq_any(ids))
            .select(SubscriptionRow::as_select())
            .load(conn)?;
        rows.into_iter().map(Subscription::try_from).collect()
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_found_in_any_case() {
        for (part, text) in [
            ("BILL", "my billing"),
            ("straße", "Alte STRASSE 1, Straße"),
            ("É", "café"),
        ] {
            assert!(Substring::new(part).is_in(text), "{part}");
        }
        assert!(!Substring::new("bill ").is_in("billing"));
    }
}
