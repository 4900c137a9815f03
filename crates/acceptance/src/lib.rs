//! Scenarios, chaos tests and soak tests of the whole system, on the test kit.
//!
//! A scenario is a function that takes a deployment. It makes its own organization there: many scenarios run side by side in
//! one deployment. A scenario that kills processes or cuts connections starts a deployment of its own.

pub mod chaos;
pub mod soak;
pub mod suite;
