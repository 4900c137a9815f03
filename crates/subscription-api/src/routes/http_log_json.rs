//! JSON of an attempt's headers, remote address and times.

use hookline_core::http_log::{HeaderLog, PhaseTimes};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A header of a request or a response.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoggedHeader)]
pub(crate) struct HeaderResponse<'a> {
    /// In lower case, as it is sent.
    #[schema(example = "webhook-id")]
    name: &'a str,
    /// Null if it is masked: a signature, a value that the subscription configures, or a credential.
    #[schema(required = true)]
    value: Option<&'a str>,
}

/// The phases of an attempt in milliseconds. A phase that did not happen, such as those of a connection that was kept from
/// an earlier request, or that did not end, is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Timings)]
pub(crate) struct TimingsResponse {
    /// Until the first address of the name is known.
    #[schema(required = true)]
    dns_ms: Option<u32>,
    #[schema(required = true)]
    connect_ms: Option<u32>,
    #[schema(required = true)]
    tls_ms: Option<u32>,
    /// From the connection, or from the begin of a request on a kept connection, to the first byte of a response, interim
    /// responses (1xx) included.
    #[schema(required = true)]
    first_byte_ms: Option<u32>,
    /// The whole attempt, as `duration_ms`.
    total_ms: u64,
}

impl TimingsResponse {
    pub(crate) fn new(times: PhaseTimes, total_ms: u64) -> Self {
        let PhaseTimes {
            dns_ms,
            connect_ms,
            tls_ms,
            first_byte_ms,
        } = times;
        Self {
            dns_ms,
            connect_ms,
            tls_ms,
            first_byte_ms,
            total_ms,
        }
    }
}

/// Writes the headers without a list of their own in between.
pub(crate) fn headers<S: Serializer>(
    log: &Option<HeaderLog>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match log {
        Some(log) => {
            let headers = log.iter();
            serializer.collect_seq(headers.map(|(name, value)| HeaderResponse { name, value }))
        }
        None => serializer.serialize_none(),
    }
}
