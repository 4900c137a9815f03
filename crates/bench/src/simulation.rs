//! A thousand dispatchers in virtual time, with endpoints that hang.
//!
//! One machine cannot run a thousand dispatchers. The dispatcher's scheduler has neither clock nor task, so a thousand
//! real schedulers run here. The queue, the delays and the store are models.

mod dispatcher_model;
mod event_queue;
mod measured;
mod message;
mod plot;
mod report;
mod scenario;
mod simulator;
mod stats;
mod table;
mod traffic;

pub use measured::{Second, SimulationResult, Waits};
pub use report::run;
pub use scenario::{Order, SimulationLoad, SimulationScenario};

/// Simulates a scenario from the first message until the last delivery has ended. The result depends only on the scenario.
pub fn simulate(scenario: &SimulationScenario) -> SimulationResult {
    simulator::Simulator::new(scenario).run()
}
