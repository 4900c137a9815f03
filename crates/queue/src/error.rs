/// A message was not handed over: the caller still owns it.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The queue cannot be reached, is full or did not confirm in time.
    #[error("the queue is not available: {0}")]
    Unavailable(String),
    /// A right is missing, which an operator grants. The text names it.
    #[error("{0}")]
    Refused(String),
}
