use std::collections::HashSet;
use std::mem::discriminant;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn plan(seed: u64, scenario: Scenario, length: Duration) -> Plan {
    Plan {
        seed,
        length,
        ..Plan::of(scenario)
    }
}

#[test]
fn a_seed_makes_one_schedule() {
    for scenario in [
        Scenario::Distributed,
        Scenario::Cluster,
        Scenario::Standalone,
        Scenario::FullDisk,
    ] {
        let of = |seed| schedule(&plan(seed, scenario, MINUTE));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}

#[test]
fn the_shortest_run_has_a_kill() {
    for seed in 0..100 {
        let injections = schedule(&plan(seed, Scenario::Standalone, Duration::from_secs(5)));
        assert_eq!(injections[0].fault, Fault::Kill);
    }
}

#[test]
fn a_longer_run_begins_as_a_shorter_one() {
    let short = schedule(&plan(7, Scenario::Distributed, MINUTE));
    let long = schedule(&plan(7, Scenario::Distributed, 10 * MINUTE));
    assert_eq!(short, long[..short.len()]);
}

#[test]
fn two_hours_have_every_fault_on_every_target() {
    let plan = plan(1, Scenario::Distributed, 120 * MINUTE);
    let injections = schedule(&plan);
    for target in plan.scenario.targets(plan.dispatchers) {
        for fault in [Fault::Kill, Fault::Freeze, Fault::Stop] {
            assert!(
                injections.iter().any(
                    |injection| injection.fault == fault && injection.targets.contains(&target)
                ),
                "no {fault} of {target}"
            );
        }
    }
    let dependencies = [Dependency::Broker, Dependency::Database];
    let others = [
        Fault::FillDisk,
        Fault::LongFreeze,
        Fault::DropWakeUps(1),
        Fault::DropWakeUps(3),
        Fault::Churn,
        Fault::Outage(Outage::Killed),
        Fault::Outage(Outage::Frozen),
        Fault::Clock(ClockShift::Ahead),
        Fault::Clock(ClockShift::Back),
        Fault::HangScheduler,
        Fault::FailOver,
    ];
    for fault in Abuse::ALL
        .map(Fault::Abuse)
        .into_iter()
        .chain(DatabaseFault::ALL.map(Fault::Database))
        .chain(dependencies.map(Fault::Cut))
        .chain(dependencies.map(Fault::Silence))
        .chain(BacklogPoint::ALL.map(Fault::CrashAt))
        .chain(others)
    {
        assert!(
            injections.iter().any(|injection| injection.fault == fault),
            "no {fault}"
        );
    }
    assert!(
        injections
            .iter()
            .any(|injection| injection.targets.len() == 2)
    );
    assert!(
        injections
            .iter()
            .all(|injection| injection.at >= FIRST && injection.at < plan.length)
    );
}

#[test]
fn four_minutes_have_each_kind_of_fault() {
    for seed in 0..20 {
        let injections = schedule(&plan(seed, Scenario::Distributed, 4 * MINUTE));
        let kinds: HashSet<_> = injections
            .iter()
            .map(|injection| discriminant(&injection.fault))
            .collect();
        for fault in [
            Fault::Churn,
            Fault::LongFreeze,
            Fault::HangScheduler,
            Fault::FailOver,
        ] {
            assert!(
                kinds.contains(&discriminant(&fault)),
                "seed {seed}: no {fault}"
            );
        }
    }
}

#[test]
fn one_node_of_a_cluster_is_hit_at_a_time() {
    for seed in 0..20 {
        let short = schedule(&plan(seed, Scenario::Cluster, Duration::from_secs(25)));
        let blows: Vec<Fault> = short.iter().map(|injection| injection.fault).collect();
        assert_eq!(
            blows[..2],
            [Fault::Kill, Fault::Freeze],
            "what `make test` has"
        );
    }
    for injection in schedule(&plan(3, Scenario::Cluster, 3 * MINUTE)) {
        assert!(
            matches!(injection.targets[..], [Target::Node(0..NODES)]),
            "{injection}"
        );
    }
}
