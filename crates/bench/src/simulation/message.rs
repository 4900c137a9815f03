//! A message in virtual time.

use hookline_core::ids::SubscriptionId;
use hookline_dispatcher::scheduler::Message;
use hookline_store::BacklogClass;

/// A message: the attempt that a delivery is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DueMessage {
    pub(super) delivery: u32,
    pub(super) endpoint: u16,
    pub(super) attempt: u8,
    /// The message was read from the backlog.
    pub(super) is_marked: bool,
}

impl DueMessage {
    /// Each endpoint has one subscription.
    pub(super) fn subscription(self) -> SubscriptionId {
        SubscriptionId(i64::from(self.endpoint))
    }
}

impl Message for DueMessage {
    fn attempt(&self) -> u32 {
        u32::from(self.attempt)
    }

    fn backlog(&self) -> Option<BacklogClass> {
        self.is_marked.then_some(BacklogClass::Live)
    }
}
