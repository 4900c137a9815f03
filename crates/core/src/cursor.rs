//! Where a page of a long list ended, as an opaque text: the next one begins right after it, however
//! many rows have come in front since, and finding it costs the same at row ten as at row ten
//! million.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::ids::SubscriptionId;
use crate::timestamp::Timestamp;

/// Which list a cursor is of: a place in one says nothing about another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Attempts.
    Log = 0,
    /// Deliveries.
    Deliveries = 1,
    /// The subscriptions of an event's story, in the order of their ids.
    Event = 2,
}

/// A row's place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The list.
    pub list: List,
    /// When it was made.
    pub created_at: Timestamp,
    /// Which one of that moment.
    pub id: Uuid,
}

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a cursor of an earlier answer of the same list")]
pub struct InvalidCursor;

/// The times of rows in microseconds: from 1970 until long after us. The first byte of each is 0, and has the
/// list's number in a cursor; so the API's document can say what one looks like.
const TIMES: std::ops::Range<i64> = 0..1 << 56;

impl Cursor {
    /// The place of a subscription in an event's story. That list is not sorted by age, so the time is 0.
    pub fn of_subscription(id: SubscriptionId) -> Self {
        Self {
            list: List::Event,
            created_at: Timestamp::from_unix_micros(0),
            id: Uuid::from_u128(id.0.unsigned_abs().into()),
        }
    }

    /// The subscription of such a place. An id that is none is beyond the end of the list.
    pub fn subscription(self) -> SubscriptionId {
        SubscriptionId(i64::try_from(self.id.as_u128()).unwrap_or(i64::MAX))
    }

    /// Reads the text form of a cursor of this list.
    ///
    /// # Errors
    /// [`InvalidCursor`] for a text that is never written, or only for another list.
    pub fn parse(text: &str, list: List) -> Result<Self, InvalidCursor> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        match bytes.first_mut() {
            Some(first) if *first == list as u8 => *first = 0,
            _ => return Err(InvalidCursor),
        }
        let (micros, id) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
        let micros = i64::from_be_bytes(*micros);
        if !TIMES.contains(&micros) {
            return Err(InvalidCursor);
        }
        Ok(Self {
            list,
            created_at: Timestamp::from_unix_micros(micros),
            id: Uuid::from_slice(id).map_err(|_| InvalidCursor)?,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.created_at.unix_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        bytes[0] = self.list as u8;
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back_for_its_list_alone(micros in TIMES, id: u128, is_log: bool) {
            let (list, other) = match is_log {
                true => (List::Log, List::Deliveries),
                false => (List::Deliveries, List::Log),
            };
            let cursor = Cursor {
                list,
                created_at: Timestamp::from_unix_micros(micros),
                id: Uuid::from_u128(id),
            };
            prop_assert_eq!(Cursor::parse(&cursor.to_string(), list), Ok(cursor));
            prop_assert_eq!(Cursor::parse(&cursor.to_string(), other), Err(InvalidCursor));
        }

        #[test]
        fn a_cursor_names_the_subscription_where_an_events_page_ended(id in 1..i64::MAX) {
            let text = Cursor::of_subscription(SubscriptionId(id)).to_string();
            let cursor = Cursor::parse(&text, List::Event).unwrap();
            prop_assert_eq!(cursor.subscription(), SubscriptionId(id));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String, bytes: Vec<u8>) {
            let _ = Cursor::parse(&text, List::Log);
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            if let Ok(cursor) = Cursor::parse(&text, List::Deliveries) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
