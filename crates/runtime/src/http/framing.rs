//! Finds the end of a request's body. The bytes after it belong to the next request.

use std::io;

use actix_web::dev::RequestHead;
use actix_web::http::header;

use super::read_buffer::{MAX_HEADERS, PIECE};

/// The CRLF after the data of a chunk.
const END_OF_CHUNK: u64 = 2;

/// The rest of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Whole,
    Bytes(u64),
    /// The line with the size of a chunk.
    Size,
    /// The data of a chunk and its end.
    Chunk(u64),
    Trailers,
}

impl Framing {
    /// actix has refused a head in which the two headers contradict each other.
    pub(super) fn of(head: &RequestHead) -> Self {
        if head.headers().contains_key(header::TRANSFER_ENCODING) {
            return Self::Size;
        }
        let length = head.headers().get(header::CONTENT_LENGTH);
        match length.and_then(|value| value.to_str().ok()?.trim().parse().ok()) {
            None | Some(0) => Self::Whole,
            Some(length) => Self::Bytes(length),
        }
    }

    /// The number of `bytes` that belong to the body and can be parsed without further bytes.
    ///
    /// # Errors
    /// When the chunks are malformed.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let step = match *self {
                Self::Whole => return Ok(taken),
                Self::Bytes(left) => self.count(left, rest, Self::Bytes, Self::Whole),
                Self::Chunk(left) => self.count(left, rest, Self::Chunk, Self::Size),
                Self::Size => self.size(rest)?,
                Self::Trailers => self.trailers(rest)?,
            };
            match step {
                0 => return Ok(taken),
                step => taken += step,
            }
        }
    }

    fn count(&mut self, left: u64, bytes: &[u8], more: fn(u64) -> Self, then: Self) -> usize {
        let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        *self = match left - taken as u64 {
            0 => then,
            left => more(left),
        };
        taken
    }

    fn size(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match httparse::parse_chunk_size(bytes) {
            Ok(httparse::Status::Complete((length, size))) => {
                *self = match size {
                    0 => Self::Trailers,
                    size => Self::Chunk(size.checked_add(END_OF_CHUNK).ok_or_else(malformed)?),
                };
                Ok(length)
            }
            Ok(httparse::Status::Partial) => incomplete(bytes),
            Err(_) => Err(malformed()),
        }
    }

    fn trailers(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(bytes, &mut headers) {
            // actix accepts only CRLF as a line end.
            Ok(httparse::Status::Complete((length, _))) if !has_bare_lf(&bytes[..length]) => {
                *self = Self::Whole;
                Ok(length)
            }
            Ok(httparse::Status::Partial) => incomplete(bytes),
            Ok(_) | Err(_) => Err(malformed()),
        }
    }
}

fn has_bare_lf(bytes: &[u8]) -> bool {
    let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
    ends != bytes.windows(2).filter(|pair| pair == b"\r\n").count()
}

/// The line of a chunk and the trailers are limited to [`PIECE`].
fn incomplete(bytes: &[u8]) -> io::Result<usize> {
    match bytes.len() {
        0..PIECE => Ok(0),
        _ => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The bytes after the body, if it ends.
    fn rest(mut framing: Framing, bytes: &[u8]) -> io::Result<Option<&[u8]>> {
        let taken = framing.advance(bytes)?;
        Ok((framing == Framing::Whole).then(|| &bytes[taken..]))
    }

    #[test]
    fn a_body_of_chunks_ends_after_its_trailers() {
        for whole in [
            "0\r\n\r\nGET",
            "1\r\nx\r\n0\r\n\r\nGET",
            "3;a=b\r\n0\r\n\r\n0\r\na: b\r\nc:\r\n\r\nGET",
        ] {
            let rest = rest(Framing::Size, whole.as_bytes()).unwrap();
            assert_eq!(rest, Some(b"GET".as_slice()), "{whole:?}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "no\r\n",
            "1\n",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\na: b\n\n",
            "0\r\n\n",
            "0\r\n a: b\r\n\r\n",
            "0\r\na : b\r\n\r\n",
        ] {
            let refused = rest(Framing::Size, bad.as_bytes());
            assert!(refused.is_err(), "{bad:?}: {refused:?}");
        }
        let long = format!("1;{}", "x".repeat(PIECE));
        assert!(rest(Framing::Size, long.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn a_body_ends_at_the_same_byte_in_any_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            piece in 1..20_usize,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\nx: y\r\n\r\n");
            let end = body.len();
            body.extend(b"GET / HTTP/1.1\r\n");
            let mut framing = Framing::Size;
            let (mut taken, mut seen) = (0, 0);
            while seen < body.len() {
                seen = (seen + piece).min(body.len());
                taken += framing.advance(&body[taken..seen]).unwrap();
            }
            prop_assert_eq!((taken, framing), (end, Framing::Whole));
        }
    }
}
