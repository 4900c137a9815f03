//! Closes a channel if its opening is abandoned.

use futures::FutureExt;
use lapin::Channel;

/// Closes the channel on drop, unless [`OpeningGuard::keep`] was called.
///
/// lapin keeps the channel of a consumer that the broker has not confirmed, also when the caller no longer waits. The
/// broker would confirm it later and send it the messages of a whole prefetch, and no task would settle them before the
/// connection ends.
pub(crate) struct OpeningGuard(Option<Channel>);

impl OpeningGuard {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self(Some(channel.clone()))
    }

    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            // lapin queues the frame when the future is first polled; the broker's answer does not matter.
            channel.close(200, "abandoned".into()).now_or_never();
        }
    }
}
