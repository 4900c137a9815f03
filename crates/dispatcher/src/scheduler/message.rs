//! What waits in lanes.

use hookline_store::BacklogClass;

/// What waits in lanes.
pub trait Message {
    /// Which attempt it asks for.
    fn attempt(&self) -> u32;

    /// Its class where it was read from the backlog.
    fn backlog(&self) -> Option<BacklogClass>;
}
