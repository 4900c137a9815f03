//! Keyset pagination. A cursor is the end of a page as an opaque text: the next page begins right after it, also when
//! rows were added in front, and costs the same at row ten as at row ten million.
//!
//! The text has a hash of its list, so a cursor of one subscription's log is not valid for another's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use uuid::Uuid;

use crate::ids::{OrganizationId, SubscriptionId};
use crate::timestamp::Timestamp;

/// The kind of a list's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorKind {
    /// The log, newest first.
    Attempts = 0,
    Deliveries = 1,
    /// The subscriptions of an event's story, in the order of their ids.
    EventSubscriptions = 2,
    /// An organization's subscriptions, newest first.
    Subscriptions = 3,
    /// Events of an organization, newest first.
    Events = 4,
    /// The tail of the log, oldest first. The time of a cursor is the number of a transaction.
    Tail = 5,
    /// Replays of an organization, newest first.
    Replays = 6,
}

/// The rows of one kind below one path of one organization. A cursor of it is not valid for another list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorScope {
    rows: CursorKind,
    mark: [u8; MARK],
}

/// With 48 bits, a cursor of another list is taken for one of this list once in 281 trillion times. That harms
/// nothing: a cursor is a place and no permission.
const MARK: usize = 6;

/// A row's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub created_at: Timestamp,
    /// Orders rows of the same time.
    pub id: Uuid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor of an earlier answer of the same list")]
pub struct InvalidCursor;

/// The times of rows in microseconds since 1970. The first byte of each is 0, and is the number of [`CursorKind`] in a
/// cursor: so the first character of a cursor tells its kind, and the OpenAPI document can give its pattern.
const TIMES: std::ops::Range<i64> = 0..1 << 56;

impl CursorKind {
    /// The list of an organization, below the id in its path; `""` for the list of all.
    pub fn of(self, organization: &OrganizationId, id: &str) -> CursorScope {
        // No id has a control character.
        let name = format!("{}\0{id}", organization.as_str());
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let mut mark = [0; MARK];
        mark.copy_from_slice(&digest.as_ref()[..MARK]);
        CursorScope { rows: self, mark }
    }
}

impl CursorScope {
    /// Reads the text form of a cursor of this list.
    ///
    /// # Errors
    /// [`InvalidCursor`] for any other text, and for a cursor of another list.
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
    /// A cursor of a list that is sorted by subscription id: its time is 0.
    pub fn of_subscription(id: SubscriptionId) -> Self {
        Self {
            created_at: Timestamp::from_unix_micros(0),
            id: Uuid::from_u128(id.0.unsigned_abs().into()),
        }
    }

    /// The subscription of such a cursor. An invalid id is beyond the end of the list.
    pub fn subscription(self) -> SubscriptionId {
        SubscriptionId(i64::try_from(self.id.as_u128()).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(rows: CursorKind, organization: &str, id: &str) -> CursorScope {
        rows.of(&OrganizationId::parse(organization).unwrap(), id)
    }

    proptest! {
        #[test]
        fn a_cursor_reads_back_for_its_list_alone(micros in TIMES, id: u128) {
            let its_list = list(CursorKind::Attempts, "a", "7");
            let cursor = Cursor {
                created_at: Timestamp::from_unix_micros(micros),
                id: Uuid::from_u128(id),
            };
            let text = its_list.text(cursor);
            prop_assert_eq!(text.len(), 40);
            prop_assert_eq!(its_list.parse(&text), Ok(cursor));
            for other in [
                list(CursorKind::Deliveries, "a", "7"),
                list(CursorKind::Attempts, "b", "7"),
                list(CursorKind::Attempts, "a", "8"),
                list(CursorKind::Attempts, "a", ""),
                list(CursorKind::Attempts, "a7", ""),
            ] {
                prop_assert_eq!(other.parse(&text), Err(InvalidCursor));
            }
        }

        #[test]
        fn a_cursor_names_the_subscription_where_a_page_ended(id in 1..i64::MAX) {
            let subscriptions = list(CursorKind::EventSubscriptions, "a", "e");
            let text = subscriptions.text(Cursor::of_subscription(SubscriptionId(id)));
            let cursor = subscriptions.parse(&text).unwrap();
            prop_assert_eq!(cursor.subscription(), SubscriptionId(id));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String, bytes: Vec<u8>) {
            let log = list(CursorKind::Attempts, "a", "");
            let _ = log.parse(&text);
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            if let Ok(cursor) = log.parse(&text) {
                prop_assert_eq!(log.text(cursor), text);
            }
        }
    }
}
