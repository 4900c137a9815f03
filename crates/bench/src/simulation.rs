//! A thousand dispatchers in virtual time, with endpoints that hang.
//!
//! One machine cannot run a thousand dispatchers. The dispatcher's scheduler has neither clock nor task, so a thousand
//! real schedulers run here. The queue, the delays and the store are models.

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

/// Simulates a scene from the first message until the last delivery has ended. The result depends only on the scene.
pub fn play(scene: &Scene) -> Run {
    world::World::new(scene).run()
}
