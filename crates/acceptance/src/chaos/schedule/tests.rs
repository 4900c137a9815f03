use std::collections::HashSet;
use std::mem::discriminant;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn plan(seed: u64, scene: Scene, length: Duration) -> Plan {
    Plan {
        seed,
        length,
        ..Plan::of(scene)
    }
}

#[test]
fn a_seed_makes_one_schedule() {
    for scene in [
        Scene::Distributed,
        Scene::Cluster,
        Scene::Embedded,
        Scene::FullDisk,
    ] {
        let of = |seed| schedule(&plan(seed, scene, MINUTE));
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }
}

#[test]
fn the_shortest_run_has_a_kill() {
    for seed in 0..100 {
        let acts = schedule(&plan(seed, Scene::Embedded, Duration::from_secs(5)));
        assert_eq!(acts[0].blow, Blow::Kill);
    }
}

#[test]
fn a_longer_run_begins_as_a_shorter_one() {
    let short = schedule(&plan(7, Scene::Distributed, MINUTE));
    let long = schedule(&plan(7, Scene::Distributed, 10 * MINUTE));
    assert_eq!(short, long[..short.len()]);
}

#[test]
fn everything_is_hit_in_every_way_within_two_hours() {
    let plan = plan(1, Scene::Distributed, 120 * MINUTE);
    let acts = schedule(&plan);
    for target in plan.scene.targets(plan.dispatchers) {
        for blow in [Blow::Kill, Blow::Freeze, Blow::Stop] {
            assert!(
                acts.iter()
                    .any(|act| act.blow == blow && act.targets.contains(&target)),
                "no {blow} of {target}"
            );
        }
    }
    let peers = [Peer::Broker, Peer::Database];
    let others = [
        Blow::Fill,
        Blow::LongFreeze,
        Blow::DropWakeUps(1),
        Blow::DropWakeUps(3),
        Blow::ComeAndGo,
        Blow::Outage(Away::Killed),
        Blow::Outage(Away::Frozen),
        Blow::Clock(Shift::Ahead),
        Blow::Clock(Shift::Back),
        Blow::Hang,
        Blow::FailOver,
    ];
    for blow in Abuse::ALL
        .map(Blow::Abuse)
        .into_iter()
        .chain(Fault::ALL.map(Blow::Raise))
        .chain(peers.map(Blow::Cut))
        .chain(peers.map(Blow::Silence))
        .chain(BacklogPoint::ALL.map(Blow::EndAt))
        .chain(others)
    {
        assert!(acts.iter().any(|act| act.blow == blow), "no {blow}");
    }
    assert!(acts.iter().any(|act| act.targets.len() == 2));
    assert!(
        acts.iter()
            .all(|act| act.at >= FIRST && act.at < plan.length)
    );
}

#[test]
fn four_minutes_have_each_act_of_the_deck() {
    for seed in 0..20 {
        let acts = schedule(&plan(seed, Scene::Distributed, 4 * MINUTE));
        let kinds: HashSet<_> = acts.iter().map(|act| discriminant(&act.blow)).collect();
        for blow in [
            Blow::ComeAndGo,
            Blow::LongFreeze,
            Blow::Hang,
            Blow::FailOver,
        ] {
            assert!(
                kinds.contains(&discriminant(&blow)),
                "seed {seed}: no {blow}"
            );
        }
    }
}

#[test]
fn one_node_of_a_cluster_is_hit_at_a_time() {
    for seed in 0..20 {
        let short = schedule(&plan(seed, Scene::Cluster, Duration::from_secs(25)));
        let blows: Vec<Blow> = short.iter().map(|act| act.blow).collect();
        assert_eq!(
            blows[..2],
            [Blow::Kill, Blow::Freeze],
            "what `make test` has"
        );
    }
    for act in schedule(&plan(3, Scene::Cluster, 3 * MINUTE)) {
        assert!(matches!(act.targets[..], [Target::Node(0..NODES)]), "{act}");
    }
}
