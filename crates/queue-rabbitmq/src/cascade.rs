//! A cascade of delays: for each level an exchange and a queue of the same name.
//!
//! A message stays at a level until its TTL ends; then RabbitMQ dead-letters it to the level below. `delay` computes the
//! route.

use lapin::types::{AMQPValue, FieldTable};

use crate::arguments::{arguments, text};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cascade {
    /// The prefix of the names of its levels.
    pub(crate) name: &'static str,
    /// The exchange below level 0.
    pub(crate) end: &'static str,
    pub(crate) overflow: Overflow,
}

/// The limit of a level.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Overflow {
    /// A level holds any number and dead-letters at least once.
    Never,
    /// A level refuses messages above this number and dead-letters at most once: a target that is missing or full loses
    /// messages and delays no others. `drop-head` would not do: RabbitMQ dead-letters the messages that it removes. They
    /// would come early, be published again for the rest of their delay, and push out others.
    Above(i32),
}

impl Cascade {
    /// The name of the exchange and of the queue.
    pub(crate) fn level(self, level: u32) -> String {
        format!("{}.{level}", self.name)
    }

    /// The exchange that expired messages of this level go to.
    pub(crate) fn below(self, level: u32) -> String {
        let below = level.checked_sub(1);
        below.map_or_else(|| self.end.to_owned(), |below| self.level(below))
    }

    pub(crate) fn queue(self, level: u32) -> (String, FieldTable) {
        let mut queue = arguments([
            ("x-queue-type", text("quorum")),
            ("x-message-ttl", AMQPValue::LongInt(1000 << level)),
            ("x-dead-letter-exchange", text(&self.below(level))),
            ("x-overflow", text("reject-publish")),
        ]);
        match self.overflow {
            Overflow::Never => {
                queue.insert("x-dead-letter-strategy".into(), text("at-least-once"));
            }
            Overflow::Above(most) => {
                queue.insert("x-max-length".into(), AMQPValue::LongInt(most));
            }
        }
        (self.level(level), queue)
    }
}
