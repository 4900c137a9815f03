//! A histogram of times with fixed buckets on a logarithmic scale, so that histograms of any two minutes can be added.

/// The lower edges of all buckets but the first, in milliseconds: 1, 2 and 5 of each power of ten, up to 55 hours. The
/// first bucket begins at 0, and the last one has no end. Stored counts name buckets by their number, so no edge ever
/// changes.
pub const EDGES_MS: [u64; 26] = [
    1,
    2,
    5,
    10,
    20,
    50,
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
];

const BUCKETS: usize = EDGES_MS.len() + 1;

/// A bucket, from 1. The number is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(u8);

impl Bucket {
    pub fn of_millis(millis: u64) -> Self {
        let index = EDGES_MS.partition_point(|edge| *edge <= millis);
        Self(u8::try_from(index + 1).unwrap_or(u8::MAX))
    }

    /// None for a number that is no bucket.
    pub fn from_number(number: u8) -> Option<Self> {
        (1..=BUCKETS)
            .contains(&usize::from(number))
            .then_some(Self(number))
    }

    pub fn number(self) -> u8 {
        self.0
    }

    fn index(self) -> usize {
        usize::from(self.0) - 1
    }
}

/// The first value of the bucket with this index, from 0, and the first value after it. The last bucket ends where it
/// begins, because its values have no bound.
fn edges(index: usize) -> (f64, f64) {
    let edge = |index: usize| match index.checked_sub(1) {
        None => 0.0,
        Some(before) => EDGES_MS[before.min(EDGES_MS.len() - 1)] as f64,
    };
    (edge(index), edge(index + 1))
}

/// Counts by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram([u64; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    pub fn add(&mut self, bucket: Bucket, count: u64) {
        self.0[bucket.index()] += count;
    }

    /// The value that `percent` of all values do not exceed, in milliseconds. It lies within the bucket of the true
    /// value, at the place that it would have if the values of the bucket were evenly spread. None without a value.
    pub fn percentile(&self, percent: u64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        let rank = (total * percent).div_ceil(100);
        let mut before = 0;
        for (index, count) in self.0.iter().enumerate() {
            if *count > 0 && rank <= before + count {
                let (from, to) = edges(index);
                let share = ((rank - before) as f64 - 0.5) / *count as f64;
                return Some(from + (to - from) * share);
            }
            before += count;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bucket_that_it_begins() {
        for (millis, number) in [
            (0, 1),
            (1, 2),
            (4, 3),
            (5, 4),
            (199_999_999, 26),
            (u64::MAX, 27),
        ] {
            assert_eq!(Bucket::of_millis(millis).number(), number, "{millis}");
        }
        assert_eq!(Bucket::from_number(0), None);
        assert_eq!(Bucket::from_number(28), None);
    }

    #[test]
    fn an_empty_histogram_has_no_percentile() {
        assert_eq!(Histogram::default().percentile(50), None);
    }

    proptest! {
        #[test]
        fn a_percentile_lies_in_the_bucket_of_the_true_one(
            mut values in proptest::collection::vec(0u64..300_000_000, 1..200),
            percent in prop_oneof![Just(50u64), Just(95), Just(99)],
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.add(Bucket::of_millis(*value), 1);
            }
            values.sort_unstable();
            let rank = (values.len() * percent as usize).div_ceil(100);
            let bucket = Bucket::of_millis(values[rank - 1]);
            let estimate = histogram.percentile(percent).unwrap();
            prop_assert_eq!(Bucket::of_millis(estimate as u64), bucket);
        }
    }
}
