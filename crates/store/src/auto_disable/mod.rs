//! Automatic disable of subscriptions after all attempts have failed for a configured time.

use std::time::Duration;

use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod sql;

impl Store {
    /// Switches off some subscriptions that had an exhausted delivery and only failed attempts for `failing_for`. Answers
    /// with the number that it looked at; 0 means that there are no more.
    pub async fn disable_failing(
        &self,
        failing_for: Duration,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        run!(self, write, |conn, q: sql| q::disable_failing(
            conn,
            now.before(failing_for),
            now
        ))
    }
}
