//! A model of a dispatcher. Time passes in milliseconds, each receiver has a fixed response time, and marked rows are
//! read again. The model shows the effect of the scheduler alone on latency, on any machine.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// The messages for bad receivers in a second, and those that wait when these become slow. In the first seconds, no
/// more rows than these are marked.
const MOST: usize = 100 + 3 * 50;

/// A receiver, and the rate of its messages.
#[derive(Clone, Copy)]
struct Endpoint {
    groups: ShareGroups,
    /// Milliseconds between its messages.
    every: u64,
    /// Milliseconds for which it holds a request.
    takes: u64,
    health: ReceiverHealth,
}

impl Endpoint {
    fn healthy(number: u64) -> Self {
        let groups = ShareGroups {
            origin: ShareGroup(number),
            organization: ShareGroup(number % 2),
        };
        Self {
            groups,
            every: 50,
            takes: 3,
            health: ReceiverHealth::Healthy,
        }
    }

    fn bad(number: u64, takes: u64) -> Self {
        Self {
            takes,
            health: ReceiverHealth::Unhealthy { retry_after: None },
            ..Self::healthy(number)
        }
    }
}

/// Items by due time.
type Agenda<T> = BTreeMap<(u64, u64), T>;

struct ModelRun {
    /// How long each message to a healthy endpoint waited for its slot, in milliseconds.
    waits: Vec<u64>,
    /// The most messages that were marked in a second.
    most_marked: usize,
}

impl ModelRun {
    fn p99(mut self) -> u64 {
        self.waits.sort_unstable();
        self.waits[self.waits.len() * 99 / 100]
    }
}

fn run(slots: usize, seconds: u64, endpoints: &[Endpoint]) -> ModelRun {
    let mut clocked = ClockedScheduler::new(slots, 7 * slots);
    clocked.scheduler.breaker_failures = 10;
    let begin = clocked.now;
    let mut numbers = 0..;
    let mut number = || numbers.next().unwrap();
    let mut arriving: Agenda<(usize, u64)> = Agenda::new();
    for (index, one) in endpoints.iter().enumerate() {
        let offset = u64::try_from(index).unwrap() * 7 % one.every;
        for at in (offset..seconds * 1_000).step_by(usize::try_from(one.every).unwrap()) {
            arriving.insert((at, number()), (index, at));
        }
    }
    let mut ending: Agenda<(Permit, Numbered, usize)> = Agenda::new();
    let mut published = HashMap::new();
    let (mut waits, mut marked) = (Vec::new(), BTreeMap::<u64, usize>::new());
    let mut stored = StoredBacklog::default();
    let groups_of = |to: SubscriptionId| endpoints[usize::try_from(to.0).unwrap()].groups;
    for now in 0..seconds * 1_000 {
        clocked.now = begin + Duration::from_millis(now);
        while let Some(entry) = ending.first_entry()
            && entry.key().0 <= now
        {
            let (permit, message, index) = entry.remove();
            let (took, health) = (endpoints[index].takes, endpoints[index].health);
            stored.done(message);
            clocked.finish_with(vec![(permit, message)], took, health);
        }
        while let Some(entry) = arriving.first_entry()
            && entry.key().0 <= now
            && clocked.scheduler.room() > 0
        {
            let (_, id) = *entry.key();
            let (index, at) = entry.remove();
            published.entry(id).or_insert((index, at));
            let message = (
                SubscriptionId(i64::try_from(index).unwrap()),
                u32::try_from(id).unwrap(),
            );
            clocked
                .scheduler
                .push(message.0, endpoints[index].groups, message, clocked.now);
        }
        for (permit, message) in clocked.start_all() {
            let id = message.1 & !FROM_BACKLOG;
            let (index, at) = published[&u64::from(id)];
            if endpoints[index].health == ReceiverHealth::Healthy {
                waits.push(now - at);
            }
            ending.insert(
                (now + endpoints[index].takes, u64::from(id)),
                (permit, message, index),
            );
        }
        *marked.entry(now / 1_000).or_default() += stored.put(clocked.scheduler.take_excess());
        if now % 50 == 0 {
            stored.serve(&mut clocked, groups_of);
        }
    }
    ModelRun {
        waits,
        most_marked: marked.into_values().max().unwrap_or_default(),
    }
}

fn ten(bad: &[u64]) -> Vec<Endpoint> {
    (0..10)
        .map(|number| match bad.get(usize::try_from(number).unwrap()) {
            Some(takes) => Endpoint::bad(number, *takes),
            None => Endpoint::healthy(number),
        })
        .collect()
}

#[test]
fn three_bad_receivers_of_ten_do_not_delay_the_others() {
    for slots in [32, 64] {
        let run = run(slots, 90, &ten(&[15_000, 10_000, 15_000]));
        let (marked, worst) = (run.most_marked, run.waits.iter().max().copied());
        let p99 = run.p99();
        assert!(
            p99 <= 5 && marked <= MOST,
            "{slots} slots: p99 {p99} ms, worst {worst:?}, {marked} marked"
        );
    }
}

#[test]
fn fifty_hanging_subscriptions_to_one_host_do_not_delay_the_others() {
    for slots in [32, 64] {
        let mut endpoints = ten(&[]);
        for _ in 0..50 {
            let hanging = Endpoint {
                every: 500,
                ..Endpoint::bad(100, 15_000)
            };
            endpoints.push(hanging);
        }
        let run = run(slots, 90, &endpoints);
        let (marked, worst) = (run.most_marked, run.waits.iter().max().copied());
        let p99 = run.p99();
        assert!(
            p99 <= 5 && marked <= MOST,
            "{slots} slots: p99 {p99} ms, worst {worst:?}, {marked} marked"
        );
    }
}
