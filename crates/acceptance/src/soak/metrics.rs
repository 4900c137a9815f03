//! A dispatcher's metrics and its memory.

use std::time::Instant;

use hookline_testkit::deployment::{Deployment, Service};
use hookline_testkit::managed_process::Memory;

/// Sums over all dispatchers at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct DispatcherMetrics {
    pub(super) at: Instant,
    /// Deliveries that were marked as backlog.
    pub(super) marked: f64,
    /// Statements for the backlog.
    pub(super) statements: f64,
    /// Deliveries that were read from the backlog.
    pub(super) read: f64,
    /// Breakers that are not closed.
    pub(super) open: f64,
    /// The most memory that one process had until now, in MiB.
    pub(super) memory: u64,
}

impl DispatcherMetrics {
    pub(super) async fn of(deployment: &Deployment) -> anyhow::Result<Self> {
        let at = Instant::now();
        let mut figures = Self {
            at,
            marked: 0.0,
            statements: 0.0,
            read: 0.0,
            open: 0.0,
            memory: 0,
        };
        for (process, admin) in deployment.processes(Service::Dispatcher).await {
            let metrics = hookline_testkit::http::get(format!("{admin}/metrics"))
                .await?
                .text()
                .await?;
            let value = |name: &str| {
                let of = |line: &str| line.strip_prefix(name)?.trim().parse::<f64>().ok();
                metrics.lines().find_map(of).unwrap_or_default()
            };
            figures.marked += value("hookline_backlog_marked_total");
            figures.statements += value("hookline_backlog_statements_total");
            figures.read += value("hookline_backlog_read_total");
            figures.open += value("hookline_breakers_open");
            figures.memory = figures.memory.max(Memory::of(process)?.peak / 1024);
        }
        Ok(figures)
    }
}
