//! Scenarios, chaos tests and soak tests of the whole system, on the test kit.
//!
//! A sentence is a function that takes a home. It makes its own organization there: many sentences run side by side in
//! one home. A sentence that kills processes or cuts connections starts a home of its own.

pub mod chaos;
pub mod soak;
pub mod suite;
