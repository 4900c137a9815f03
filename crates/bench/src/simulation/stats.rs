//! Running counts of a simulation: no figure needs an iteration over a thousand dispatchers.

use hookline_core::retry::RetryDecision;

use super::measured::{Second, SimulationResult};
use super::scenario::{EndpointKind, endpoints};

pub(super) struct Stats {
    run: SimulationResult,
    /// Requests in flight to each endpoint.
    in_flight: Vec<u32>,
    kinds: Vec<EndpointKind>,
    /// Messages in the memory of all dispatchers.
    held: u32,
    /// Messages that each dispatcher has marked in this second.
    marked: Vec<u32>,
    second: usize,
}

impl Stats {
    pub(super) fn new(dispatchers: usize) -> Self {
        let kinds: Vec<EndpointKind> = endpoints().iter().map(|endpoint| endpoint.kind).collect();
        Self {
            run: SimulationResult::default(),
            in_flight: vec![0; kinds.len()],
            kinds,
            held: 0,
            marked: vec![0; dispatchers],
            second: 0,
        }
    }

    /// Closes the seconds that end between these milliseconds.
    pub(super) fn pass(&mut self, from: u32, to: u32, queued: usize) {
        for second in from / 1_000..to / 1_000 {
            self.second = second as usize;
            let of = |kind: EndpointKind| &self.in_flight[kind.endpoints()];
            let to_tenant = of(EndpointKind::Tenant).iter().sum();
            let to_one_hanging = of(EndpointKind::Hanging)
                .iter()
                .max()
                .copied()
                .unwrap_or_default();
            let hanging: u32 = of(EndpointKind::Hanging)
                .iter()
                .chain(of(EndpointKind::Dead))
                .sum();
            let in_memory = self.held;
            let marked_by_one = self.marked.iter().max().copied().unwrap_or_default();
            self.marked.fill(0);
            let now = self.now();
            now.bad_in_flight = hanging + to_tenant;
            now.to_tenant = to_tenant;
            now.to_one_hanging = to_one_hanging;
            now.in_memory = in_memory;
            now.marked_by_one = marked_by_one;
            now.queued = u32::try_from(queued).unwrap_or(u32::MAX);
        }
        self.second = (to / 1_000) as usize;
    }

    pub(super) fn end(mut self, published: usize) -> SimulationResult {
        self.now();
        self.run.published = published;
        self.run
    }

    pub(super) fn count_arrival(&mut self) {
        self.held += 1;
    }

    pub(super) fn left(&mut self) {
        self.held -= 1;
    }

    pub(super) fn waited(&mut self, endpoint: usize, published: u32, now: u32) {
        let second = of(&mut self.run.seconds, (published / 1_000) as usize);
        match self.kinds[endpoint] {
            EndpointKind::Healthy => second.healthy_waits.push(now - published),
            EndpointKind::Slow => second.slow_waits.push(now - published),
            EndpointKind::Hanging | EndpointKind::Tenant | EndpointKind::Dead => {}
        }
    }

    pub(super) fn started(&mut self, endpoint: usize) {
        self.in_flight[endpoint] += 1;
        if self.kinds[endpoint] == EndpointKind::Dead {
            self.now().to_dead += 1;
        }
    }

    pub(super) fn over(&mut self, endpoint: usize) {
        self.in_flight[endpoint] -= 1;
        self.held -= 1;
    }

    pub(super) fn ended(&mut self, endpoint: usize, next: RetryDecision) {
        match next {
            RetryDecision::Delivered => self.run.delivered += 1,
            RetryDecision::Exhausted(_) | RetryDecision::Retry(_) => self.run.exhausted += 1,
        }
        if self.kinds[endpoint].is_bad() {
            self.now().bad_ended += 1;
        }
    }

    pub(super) fn twice(&mut self) {
        self.run.twice += 1;
    }

    pub(super) fn marked(&mut self, dispatcher: usize) {
        self.marked[dispatcher] += 1;
        self.now().marked += 1;
    }

    pub(super) fn searched(&mut self, found: usize) {
        let now = self.now();
        now.searches += 1;
        now.found += u32::try_from(found).unwrap_or(u32::MAX);
    }

    fn now(&mut self) -> &mut Second {
        of(&mut self.run.seconds, self.second)
    }
}

fn of(seconds: &mut Vec<Second>, second: usize) -> &mut Second {
    if seconds.len() <= second {
        seconds.resize_with(second + 1, Second::default);
    }
    &mut seconds[second]
}
