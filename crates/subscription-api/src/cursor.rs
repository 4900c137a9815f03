//! Where a page of a long list ended, as an opaque text: the next one begins right after it, however
//! many rows have come in front since, and finding it costs the same at row ten as at row ten
//! million.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookline_core::timestamp::Timestamp;
use hookline_store::PageCursor;
use uuid::Uuid;

/// A text that is no cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a next_cursor of an earlier answer")]
pub(crate) struct InvalidCursor;

/// The times of rows in microseconds: from 1970 until long after us. The first byte of each is 0,
/// and so the document can say what a cursor looks like.
const TIMES: std::ops::Range<i64> = 0..1 << 56;

/// Writes a cursor.
pub(crate) fn write(cursor: &PageCursor) -> String {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&cursor.created_at.unix_micros().to_be_bytes());
    bytes[8..].copy_from_slice(cursor.id.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads one.
///
/// # Errors
/// [`InvalidCursor`] for a text that [`fn@write`] never writes.
pub(crate) fn read(text: &str) -> Result<PageCursor, InvalidCursor> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
    let (micros, id) = bytes.split_first_chunk().ok_or(InvalidCursor)?;
    let micros = i64::from_be_bytes(*micros);
    if !TIMES.contains(&micros) {
        return Err(InvalidCursor);
    }
    Ok(PageCursor {
        created_at: Timestamp::from_unix_micros(micros),
        id: Uuid::from_slice(id).map_err(|_| InvalidCursor)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_reads_back(micros in TIMES, id: u128) {
            let created_at = Timestamp::from_unix_micros(micros);
            let text = write(&PageCursor { created_at, id: Uuid::from_u128(id) });
            let read = read(&text).unwrap();
            prop_assert_eq!((read.created_at, read.id.as_u128()), (created_at, id));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
        }

        #[test]
        fn any_text_is_a_cursor_or_an_error(text: String, bytes: Vec<u8>) {
            let _ = read(&text);
            if let Ok(cursor) = read(&URL_SAFE_NO_PAD.encode(&bytes)) {
                prop_assert_eq!(write(&cursor), URL_SAFE_NO_PAD.encode(&bytes));
            }
        }
    }
}
