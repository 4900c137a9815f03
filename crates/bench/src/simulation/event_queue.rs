//! The future events of a run by time, in milliseconds from its beginning. Delayed messages are among them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::dispatcher_model::RequestPermit;
use super::message::DueMessage;

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointAnswer {
    Healthy,
    TimedOut,
    Refused,
}

pub(super) enum SimulationEvent {
    /// The delay of a message is over.
    Back(DueMessage),
    /// A request has ended.
    Over {
        dispatcher: u16,
        permit: RequestPermit,
        message: DueMessage,
        answer: EndpointAnswer,
        took: u16,
    },
    /// A lane of a dispatcher may have become slow, or the dispatcher may search its backlogs again.
    Wake { dispatcher: u16 },
}

/// Ordered by millisecond, then by insertion.
#[derive(Default)]
pub(super) struct SimulationEvents(BTreeMap<u32, Vec<SimulationEvent>>);

impl SimulationEvents {
    pub(super) fn enter(&mut self, at: u32, event: SimulationEvent) {
        self.0.entry(at).or_default().push(event);
    }

    pub(super) fn next(&self) -> Option<u32> {
        self.0.keys().next().copied()
    }

    pub(super) fn take(&mut self, at: u32) -> Vec<SimulationEvent> {
        self.0.remove(&at).unwrap_or_default()
    }
}

/// The delay that the broker gives, in milliseconds. The wanted delay is rounded up to seconds. Above a minute, only
/// the four highest bits of the seconds count.
pub(super) fn rest(wanted: Duration) -> u32 {
    let seconds = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
    let dropped = match seconds {
        0..=60 => 0,
        _ => seconds.ilog2() - 3,
    };
    u32::try_from((seconds >> dropped << dropped) * 1_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_rounded_as_the_broker_rounds_it() {
        for (wanted, given) in [(1, 1), (60, 60), (63, 60), (64, 64), (900, 896)] {
            assert_eq!(rest(Duration::from_secs(wanted)), given * 1_000, "{wanted}");
        }
        assert_eq!(rest(Duration::from_millis(4_001)), 5_000);
    }
}
