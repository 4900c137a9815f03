//! Ingest stores published events with the deliveries that they make.
//!
//! Messages are decoded, and their events wait by organization (`backlog`). One transaction stores a slice of them with
//! its deliveries, and then their owners are woken (`storing`). A message is acked when all of its events are stored
//! (`unacked`): from then on the rows say which deliveries are owed. After a crash in between the message comes again,
//! and its stored events create no second delivery.

mod backlog;
mod config;
mod decode;
mod deferred_batch;
mod deferrer;
mod intake;
mod intake_loop;
mod quarantine;
mod rate_limit;
mod storage_quota;
mod storing;
mod unacked;

use std::sync::Arc;

use hookline_runtime::panics;
use hookline_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::deferrer::Deferrer;
use crate::intake::Intake;
use crate::intake_loop::IntakeLoop;

pub use config::{Ingest, IngestPolicy};

/// Stores events until the shutdown. Begun transactions are then finished until the end of the grace period. All other
/// messages are requeued.
pub async fn run(ingest: Ingest, shutdown: Shutdown) {
    let (deferring, messages) = mpsc::unbounded_channel();
    let meter = opentelemetry::global::meter("hookline-ingest");
    let deferrer = Deferrer {
        events: Arc::clone(&ingest.events),
        messages,
        max_batch: ingest.policy.batch,
        shutdown: shutdown.clone(),
        deferred: meter.u64_counter("hookline.events.put_off").build(),
    };
    let intake = Arc::new(Intake::new(ingest, shutdown.clone(), deferring));
    let stopping = async {
        shutdown.draining.cancelled().await;
        intake.ingest.events.stop();
        std::future::pending::<()>().await;
    };
    let deferring = tokio::spawn(panics::fatal("deferring", deferrer.run()));
    let working = async {
        intake.load_fan_out().await;
        IntakeLoop::new(Arc::clone(&intake)).run().await;
    };
    tokio::select! {
        () = working => {}
        () = stopping => return,
    }
    // The deferrer ends once no more messages can come.
    drop(intake);
    // A panic of the deferrer is logged where it happens.
    let _ = deferring.await;
}
