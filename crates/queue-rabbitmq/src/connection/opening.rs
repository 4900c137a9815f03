//! A channel whose opening may be given up.

use futures::FutureExt;
use lapin::Channel;

/// Closes the channel unless the opening has ended well.
///
/// lapin keeps a channel for a consumer that the broker has not confirmed, also when the caller waits no longer. The broker
/// would confirm it later and send it as many messages as it prefetches, and no task would settle them before
/// the connection ends.
pub(crate) struct Opening(Option<Channel>);

impl Opening {
    pub(crate) fn of(channel: &Channel) -> Self {
        Self(Some(channel.clone()))
    }

    pub(crate) fn ended_well(mut self) {
        self.0 = None;
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            // lapin queues the frame when the future is first polled; the broker's answer is of no interest.
            channel.close(200, "given up".into()).now_or_never();
        }
    }
}
