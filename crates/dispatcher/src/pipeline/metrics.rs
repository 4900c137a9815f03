//! Gauges of the subscription queues, summed over all: a label for each subscription would grow without bound.

use opentelemetry::metrics::Gauge;

use crate::scheduler::Totals;

pub(crate) struct Gauges {
    waiting: Gauge<u64>,
    in_flight: Gauge<u64>,
    active: Gauge<u64>,
    slow: Gauge<u64>,
    open: Gauge<u64>,
    shown: Option<Totals>,
}

impl Gauges {
    pub(crate) fn new() -> Self {
        let meter = opentelemetry::global::meter("hookline-dispatcher");
        let gauge = |name| meter.u64_gauge(name).build();
        Self {
            waiting: gauge("hookline.lanes.waiting"),
            in_flight: gauge("hookline.requests.in_flight"),
            active: gauge("hookline.lanes.active"),
            slow: gauge("hookline.lanes.slow"),
            open: gauge("hookline.breakers.open"),
            shown: None,
        }
    }

    pub(crate) fn show(&mut self, totals: Totals) {
        if self.shown.replace(totals) == Some(totals) {
            return;
        }
        let show = |gauge: &Gauge<u64>, count| {
            gauge.record(u64::try_from(count).unwrap_or(u64::MAX), &[]);
        };
        show(&self.waiting, totals.waiting);
        show(&self.in_flight, totals.in_flight);
        show(&self.active, totals.active);
        show(&self.slow, totals.slow);
        show(&self.open, totals.open);
    }
}
