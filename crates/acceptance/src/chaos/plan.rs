//! The settings of a run, and what it did.

use std::time::{Duration, Instant};

use super::fault::Injection;
use super::scenario::{FaultKind, Scenario};

/// The dispatcher's deadline in these runs. Late answers exceed it.
pub(super) const DEADLINE: Duration = Duration::from_secs(3);

/// The setting `dispatcher.slots` of a run.
pub(super) const SLOTS: usize = 64;

/// The settings of a run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// The seed of the random numbers.
    pub seed: u64,
    /// Where, and what is done there.
    pub scenario: Scenario,
    /// How long there is load, and faults.
    pub length: Duration,
    /// How many events are published each second in each way that the deployment has.
    pub rate: u32,
    /// Dispatchers of a distributed deployment.
    pub dispatchers: usize,
    /// Each process drops one wake-up in this many, all the time.
    pub drop_wake_ups: Option<u8>,
    /// The one kind of fault to perform; `None` for all kinds of the scenario.
    pub only: Option<FaultKind>,
}

impl Plan {
    /// A minute of this scenario as it is run where nothing else is asked for.
    pub fn of(scenario: Scenario) -> Self {
        Self {
            seed: 0,
            scenario,
            length: Duration::from_secs(60),
            rate: 40,
            dispatchers: 2,
            drop_wake_ups: None,
            only: None,
        }
    }
}

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Performed {
    /// The fault as planned.
    pub injection: Injection,
    /// When it began.
    pub began: Instant,
    /// When everything had been started or thawed again; it need not be ready then.
    pub back: Instant,
}
