use super::SECOND;
use super::cluster::Cluster;
use hookline_core::partition::Partitions;

#[test]
fn a_dispatcher_that_is_not_able_gives_its_partitions_to_an_able_one_if_there_is_any() {
    let mut cluster = Cluster::settled(7, 8, 2);
    for process in &mut cluster.processes {
        process.able = false;
    }
    cluster.run(SECOND * 10);
    cluster.assert_settled();
    let owners = cluster.owners();
    cluster.run(SECOND * 10);
    assert_eq!(cluster.owners(), owners);
    cluster.processes[0].able = true;
    cluster.run(SECOND * 3);
    let able = cluster.processes[0].membership.id();
    assert_eq!(cluster.owners(), [Some(able); 8]);
    cluster.processes[1].able = true;
    cluster.run(SECOND * 5);
    cluster.assert_settled();
}

#[test]
fn the_last_dispatcher_that_stops_leaves_all_partitions_free() {
    let mut cluster = Cluster::settled(7, 8, 1);
    cluster.stop(0);
    cluster.run(SECOND * 2);
    assert_eq!(cluster.owners(), [None; 8]);
    assert!(!cluster.processes[0].alive);
}

#[test]
fn dispatchers_take_the_partitions_of_dead_ones_after_a_full_restart() {
    let mut cluster = Cluster::settled(7, 8, 2);
    for number in 0..2 {
        cluster.kill(number);
        cluster.start();
    }
    cluster.run(SECOND * 6);
    cluster.assert_settled();
    assert!(cluster.store.holdings.iter().all(|each| each.deaths == 1));
}

#[test]
fn a_change_of_the_number_of_partitions_drops_or_takes_them() {
    let mut cluster = Cluster::settled(7, 8, 2);
    cluster.store.partitions = Partitions::new(3).unwrap();
    cluster.run(SECOND);
    let mut held: Vec<_> = cluster
        .acted_for()
        .into_iter()
        .map(|partition| partition.0)
        .collect();
    held.sort_unstable();
    assert_eq!(held, [0, 1, 2]);
    cluster.store.partitions = Partitions::new(8).unwrap();
    cluster.run(SECOND * 5);
    cluster.assert_settled();
}

#[test]
fn a_dispatcher_without_its_row_releases_all_and_registers_again() {
    let mut cluster = Cluster::settled(7, 8, 2);
    let before = cluster.processes[0].membership.id();
    cluster.store.unregister(before);
    cluster.run(SECOND);
    let after = cluster.processes[0].membership.id();
    assert_ne!(after, before);
    assert!(cluster.processes[0].membership.held().is_empty());
    cluster.run(SECOND * 5);
    cluster.assert_settled();
}
