//! The bodies of events on a page, whole ones up to a number of bytes.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary};

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::rows::corrupt;
use crate::schema::events;

/// The beginning of every event that is read. SQL counts from 1.
const BEGINNING: &str = "substr(events.body, 1, 256)";

/// A text or its beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    pub text: Arc<str>,
    pub is_whole: bool,
}

/// Drops a cut last character.
fn whole_characters(beginning: &[u8]) -> &str {
    match std::str::from_utf8(beginning) {
        Ok(text) => text,
        Err(cut) => std::str::from_utf8(&beginning[..cut.valid_up_to()]).unwrap_or_default(),
    }
}

backends!(
    use backend::Conn;

    /// The bodies of these events: those whole that fit into `room` bytes, in this order, and the beginnings of the others.
    /// Many rows may have one event.
    pub(crate) fn read(
        conn: &mut Conn,
        keys: &[UuidKey],
        mut room: usize,
    ) -> Result<HashMap<UuidKey, Excerpt>, StoreError> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let beginnings: Vec<(UuidKey, i64, Vec<u8>)> = events::table
            .filter(events::key.eq_any(keys))
            .select((
                events::key,
                sql::<BigInt>("CAST(length(events.body) AS BIGINT)"),
                sql::<Binary>(BEGINNING),
            ))
            .load(conn)?;
        let mut found = HashMap::with_capacity(beginnings.len());
        let mut lengths = HashMap::with_capacity(beginnings.len());
        for (key, length, beginning) in beginnings {
            lengths.insert(key, usize::try_from(length).unwrap_or(usize::MAX));
            let text = whole_characters(&beginning).into();
            found.insert(
                key,
                Excerpt {
                    text,
                    is_whole: false,
                },
            );
        }
        let mut wanted = Vec::new();
        for key in keys {
            if !wanted.contains(key)
                && let Some(rest) = lengths
                    .get(key)
                    .and_then(|length| room.checked_sub(*length))
            {
                room = rest;
                wanted.push(*key);
            }
        }
        if wanted.is_empty() {
            return Ok(found);
        }
        let whole: Vec<(UuidKey, Vec<u8>)> = events::table
            .filter(events::key.eq_any(wanted))
            .select((events::key, events::body))
            .load(conn)?;
        for (key, body) in whole {
            let text = String::from_utf8(body).map_err(|why| corrupt("body", why))?;
            found.insert(
                key,
                Excerpt {
                    text: text.into(),
                    is_whole: true,
                },
            );
        }
        Ok(found)
    }
);
