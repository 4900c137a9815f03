//! Sentences about the whole system. Each is tried on embedded parts and on PostgreSQL and
//! RabbitMQ; a behaviour that only one home has is a failure.

mod crashes;
mod delivering;

use std::process::ExitCode;

use hookline_acceptance::sentences;
use hookline_acceptance::suite::{Suite, run};

fn main() -> anyhow::Result<ExitCode> {
    run(Suite {
        shared: delivering::shared(),
        alone: crashes::alone(),
        distributed: sentences![],
    })
}
