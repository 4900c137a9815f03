//! Regression test of the delivery rate: short workloads with one and with ten subscriptions.
//!
//! The rate is relative to the bare requests of the machine in the same run. The speed of the machine then does not
//! matter, and its other load matters little.

use hookline_bench::measurement::DELIVERED;
use hookline_bench::scenarios::{Scenario, Size, bare_posts};
use hookline_testkit::deployment::Mode;

/// A tenth of the size in `make bench`.
const SIZE: Size = Size(0.1);

/// Six tenths of the minimum of ten runs (0.182, 0.270, 0.202 and 0.341): only a real regression is below. The numbers
/// are from a build without optimizations, like every test, so only their decrease has a meaning.
const FLOORS: [(Scenario, Mode, f64); 4] = [
    (Scenario::A, Mode::Distributed, 0.11),
    (Scenario::B, Mode::Distributed, 0.16),
    (Scenario::A, Mode::Standalone, 0.12),
    (Scenario::B, Mode::Standalone, 0.20),
];

/// The best of these tries counts, because one measurement may be disturbed.
const TRIES: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_stays_a_part_of_what_the_machine_can_do() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    for (scenario, mode, floor) in FLOORS {
        let mut best = 0.0_f64;
        for _ in 0..TRIES {
            let machine = bare_posts(SIZE).await.unwrap();
            let figures = scenario.run(mode, SIZE).await.unwrap();
            let rate = figures
                .iter()
                .find(|figure| figure.row.what == DELIVERED)
                .unwrap()
                .value;
            let letter = scenario.letter();
            println!(
                "{letter} {mode:?}: {rate:.0}/s of {machine:.0}/s, {:.3}; the floor is {floor}",
                rate / machine
            );
            best = best.max(rate / machine);
            if best >= floor {
                break;
            }
        }
        assert!(
            best >= floor,
            "{scenario:?} {mode:?}: {best:.3} is below {floor}"
        );
    }
}
