//! Fast and slow subscription queues.

use std::time::Duration;

/// A queue is slow while one of its requests takes longer, and until a request has been faster.
pub(super) const SLOW: Duration = Duration::from_secs(1);

/// The round robin in which a subscription queue takes its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Speed {
    #[default]
    Fast,
    Slow,
}

impl Speed {
    pub(super) fn other(self) -> Self {
        match self {
            Speed::Fast => Speed::Slow,
            Speed::Slow => Speed::Fast,
        }
    }
}
