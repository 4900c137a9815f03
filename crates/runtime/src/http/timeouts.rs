use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a head since its first byte, and for the first head since the connection was accepted.
    pub head: Duration,
    /// For the first byte of the next request after an answer.
    pub idle: Duration,
    /// For 32 KiB of an answer, or its rest.
    pub writing: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            // The kernel reports progress when a third of its buffer is free, some 85 KiB.
            writing: Duration::from_secs(30),
        }
    }
}
