//! A thousand dispatchers cannot be had on one machine, but the code that decides whose turn it is
//! has neither clock nor task: so a thousand of its real lanes run here in virtual time, beside a
//! queue, delays and a store that are modelled, with endpoints that hang.

mod agenda;
mod desk;
mod measured;
mod plot;
mod report;
mod scene;
mod table;
mod tally;
mod traffic;
mod world;

pub use measured::{Run, Second, Waits};
pub use report::run;
pub use scene::{Load, Order, Scene};

/// Lets a scene happen, from the first message until the last delivery has ended. The same scene
/// always happens in the same way.
pub fn play(scene: &Scene) -> Run {
    world::World::new(scene).run()
}
