//! Scenarios about the whole system. Each runs on the embedded parts, and on PostgreSQL and RabbitMQ. A behaviour that
//! only one deployment has is a failure.

mod api_access;
mod api_clients;
mod api_deliveries;
mod api_document_holds;
mod api_documents;
mod api_errors;
mod api_events;
mod api_keys;
mod api_limits;
mod api_logs;
mod api_requests;
mod api_stats;
mod api_subscriptions;
mod api_test_calls;
mod api_wire;
mod backlog;
mod chaos;
mod clocks;
mod connecting;
mod crashes;
mod delivering;
mod embedded_queue;
mod failing;
mod fairness;
mod hostile;
mod large_fan_outs;
mod outages;
mod owners;
mod partitions;
mod poison;
mod publishing;
mod receiving;
mod recovery;
mod replays;
mod restarting;
mod retrying;
mod secrets;
mod starting;
mod stopping;
mod store_faults;
mod streams;
mod subscription_fields;
mod tenants;
mod tracing;

use std::process::ExitCode;

use hookline_acceptance::suite::{Suite, run};

fn main() -> anyhow::Result<ExitCode> {
    run(Suite {
        shared: [
            api_access::shared(),
            api_deliveries::shared(),
            api_documents::shared(),
            api_errors::shared(),
            api_events::shared(),
            api_keys::shared(),
            api_limits::shared(),
            api_logs::shared(),
            api_stats::shared(),
            api_subscriptions::shared(),
            api_requests::shared(),
            api_test_calls::shared(),
            api_wire::shared(),
            backlog::shared(),
            connecting::shared(),
            delivering::shared(),
            hostile::shared(),
            publishing::shared(),
            receiving::shared(),
            replays::shared(),
            retrying::shared(),
            secrets::shared(),
            streams::shared(),
        ]
        .concat(),
        isolated: [
            api_access::isolated(),
            api_document_holds::isolated(),
            api_limits::isolated(),
            api_requests::isolated(),
            api_wire::isolated(),
            backlog::isolated(),
            chaos::isolated(),
            clocks::isolated(),
            connecting::isolated(),
            crashes::isolated(),
            failing::isolated(),
            fairness::isolated(),
            replays::isolated(),
            owners::isolated(),
            poison::isolated(),
            secrets::isolated(),
            hostile::isolated(),
            large_fan_outs::isolated(),
            starting::isolated(),
            stopping::isolated(),
            streams::isolated(),
            tenants::isolated(),
            tracing::isolated(),
        ]
        .concat(),
        shared_distributed: publishing::distributed(),
        exclusive: [restarting::exclusive(), tenants::exclusive()].concat(),
        exclusive_distributed: [
            chaos::exclusive_distributed(),
            owners::exclusive(),
            partitions::exclusive_distributed(),
            store_faults::exclusive(),
        ]
        .concat(),
        distributed: [
            clocks::distributed(),
            delivering::distributed(),
            large_fan_outs::distributed(),
            outages::distributed(),
            partitions::distributed(),
            publishing::hostile(),
            recovery::distributed(),
            restarting::distributed(),
            replays::distributed(),
            secrets::distributed(),
            starting::distributed(),
            stopping::distributed(),
            store_faults::distributed(),
            streams::distributed(),
            tenants::distributed(),
        ]
        .concat(),
        standalone: [
            api_clients::standalone(),
            chaos::standalone(),
            clocks::standalone(),
            embedded_queue::standalone(),
            partitions::standalone(),
            starting::standalone(),
        ]
        .concat(),
    })
}
