//! W3C Trace Context, so that one trace leads from the publisher to the receiver.

use std::fmt;

/// The `traceparent` of a span: <https://www.w3.org/TR/trace-context/#traceparent-header>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: u128,
    /// The span; never 0.
    pub span_id: u64,
    /// Bit 0 says that the caller records the trace.
    pub flags: u8,
}

impl TraceParent {
    /// Reads a header's value. An invalid `traceparent` is dropped and never an error, as the specification requires.
    pub fn parse(text: &str) -> Option<Self> {
        let (version, rest) = text.split_once('-')?;
        let (trace_id, rest) = rest.split_once('-')?;
        let (span_id, rest) = rest.split_once('-')?;
        let flags = match version {
            "00" => rest,
            _ => rest.split('-').next()?,
        };
        let known_version = version != "ff" && hex(version, 2).is_some();
        let parsed = Self {
            trace_id: hex(trace_id, 32)?,
            span_id: u64::try_from(hex(span_id, 16)?).ok()?,
            flags: u8::try_from(hex(flags, 2)?).ok()? & 1,
        };
        (known_version && parsed.trace_id != 0 && parsed.span_id != 0).then_some(parsed)
    }

    /// The same trace in a span of our own.
    #[must_use]
    pub fn child(self, span_id: u64) -> Self {
        Self {
            span_id: span_id.max(1),
            ..self
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{:032x}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
    }
}

fn hex(text: &str, digits: usize) -> Option<u128> {
    let lowercase = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lowercase))
        .then(|| u128::from_str_radix(text, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_trace_goes_on_in_a_span_of_our_own() {
        let parent = TraceParent::parse(EXAMPLE).unwrap();
        assert_eq!(parent.to_string(), EXAMPLE);
        assert_eq!(
            parent.child(2).to_string(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01"
        );
    }

    #[test]
    fn an_invalid_traceparent_is_dropped() {
        for bad in [
            "",
            "00",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        let later = format!("cc{}-more", &EXAMPLE[2..]);
        assert!(
            TraceParent::parse(&later).is_some(),
            "a later version is read as far as we know it"
        );
    }
}
