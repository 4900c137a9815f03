//! Where a page of a long list ended, as an opaque text: the next one begins right after it, however
//! many rows have come in front since, and finding it costs the same at row ten as at row ten
//! million.
//!
//! The text also has the mark of its list. A cursor of one subscription's log is no cursor of another's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use uuid::Uuid;

use crate::ids::{OrganizationId, SubscriptionId};
use crate::timestamp::Timestamp;

/// The kind of a list's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The log, newest first.
    Attempts = 0,
    /// Newest first, too.
    Deliveries = 1,
    /// The subscriptions of an event's story, in the order of their ids.
    Fates = 2,
    /// An organization's subscriptions, newest first.
    Subscriptions = 3,
}

/// One list: the rows of one kind below one path of one organization. A place in it says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    rows: Rows,
    mark: [u8; MARK],
}

/// With 48 bits, a cursor of another list is taken for one of this list once in 281 trillion times. That harms
/// nothing: a cursor is a place and no permission.
const MARK: usize = 6;

/// A row's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// When the row was made.
    pub created_at: Timestamp,
    /// Which one of that moment.
    pub id: Uuid,
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor of an earlier answer of the same list")]
pub struct InvalidCursor;

/// The times of rows in microseconds: from 1970 until long after us. The first byte of each is 0, and has the
/// number of [`Rows`] in a cursor; so the API's document can say what one looks like.
const TIMES: std::ops::Range<i64> = 0..1 << 56;

impl Rows {
    /// The list of an organization, below the id in its path; `""` for the list of all.
    pub fn of(self, organization: &OrganizationId, id: &str) -> List {
        // No id has a control character.
        let name = format!("{}\0{id}", organization.as_str());
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let mut mark = [0; MARK];
        mark.copy_from_slice(&digest.as_ref()[..MARK]);
        List { rows: self, mark }
    }
}

impl List {
    /// Reads the text form of a cursor of this list.
    ///
    /// # Errors
    /// [`InvalidCursor`] for a text that is never written, or only for another list.
    pub fn parse(self, text: &str) -> Result<Cursor, InvalidCursor> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        match bytes.first_mut() {
            Some(first) if *first == self.rows as u8 => *first = 0,
            _ => return Err(InvalidCursor),
        }
        let place = bytes.strip_suffix(&self.mark).ok_or(InvalidCursor)?;
        let (micros, id) = place.split_first_chunk().ok_or(InvalidCursor)?;
        let micros = i64::from_be_bytes(*micros);
        if !TIMES.contains(&micros) {
            return Err(InvalidCursor);
        }
        Ok(Cursor {
            created_at: Timestamp::from_unix_micros(micros),
            id: Uuid::from_slice(id).map_err(|_| InvalidCursor)?,
        })
    }

    /// The text form of a cursor of this list.
    pub fn text(self, cursor: Cursor) -> String {
        let mut bytes = [0; 24 + MARK];
        bytes[..8].copy_from_slice(&cursor.created_at.unix_micros().to_be_bytes());
        bytes[8..24].copy_from_slice(cursor.id.as_bytes());
        bytes[24..].copy_from_slice(&self.mark);
        bytes[0] = self.rows as u8;
        URL_SAFE_NO_PAD.encode(bytes)
    }
}

impl Cursor {
    /// The place of a subscription in a list that is sorted by ids and not by age: the time is 0.
    pub fn of_subscription(id: SubscriptionId) -> Self {
        Self {
            created_at: Timestamp::from_unix_micros(0),
            id: Uuid::from_u128(id.0.unsigned_abs().into()),
        }
    }

    /// The subscription of such a place. An id that is none is beyond the end of the list.
    pub fn subscription(self) -> SubscriptionId {
        SubscriptionId(i64::try_from(self.id.as_u128()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(rows: Rows, organization: &str, id: &str) -> List {
        rows.of(&OrganizationId::parse(organization).unwrap(), id)
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_for_its_list_alone(micros in TIMES, id: u128) {
            let its_list = list(Rows::Attempts, "a", "7");
            let cursor = Cursor {
                created_at: Timestamp::from_unix_micros(micros),
                id: Uuid::from_u128(id),
            };
            let text = its_list.text(cursor);
            prop_assert_eq!(text.len(), 40);
            prop_assert_eq!(its_list.parse(&text), Ok(cursor));
            for other in [
                list(Rows::Deliveries, "a", "7"),
                list(Rows::Attempts, "b", "7"),
                list(Rows::Attempts, "a", "8"),
                list(Rows::Attempts, "a", ""),
                list(Rows::Attempts, "a7", ""),
            ] {
                prop_assert_eq!(other.parse(&text), Err(InvalidCursor));
            }
        }

        #[test]
        fn a_cursor_names_the_subscription_where_a_page_ended(id in 1..i64::MAX) {
            let fates = list(Rows::Fates, "a", "e");
            let text = fates.text(Cursor::of_subscription(SubscriptionId(id)));
            let cursor = fates.parse(&text).unwrap();
            prop_assert_eq!(cursor.subscription(), SubscriptionId(id));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String, bytes: Vec<u8>) {
            let log = list(Rows::Attempts, "a", "");
            let _ = log.parse(&text);
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            if let Ok(cursor) = log.parse(&text) {
                prop_assert_eq!(log.text(cursor), text);
            }
        }
    }
}
