//! The owners of partitions, as `hookline partitions` shows them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::Value;

/// The owner and the epoch of each partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owners(BTreeMap<u64, (String, i64)>);

impl Owners {
    /// None while a partition has no owner, or one that has left.
    pub(super) fn read(printed: &str) -> anyhow::Result<Option<Self>> {
        let printed: Value = serde_json::from_str(printed)?;
        let rows = printed["partitions"].as_array().context("no partitions")?;
        let mut owners = BTreeMap::new();
        for row in rows {
            let number = row["partition"].as_u64().context("no number")?;
            let epoch = row["epoch"].as_i64().context("no epoch")?;
            let (Some(owner), Some(_)) = (row["owner"].as_str(), row["heartbeat"].as_i64()) else {
                return Ok(None);
            };
            owners.insert(number, (owner.to_owned(), epoch));
        }
        Ok(Some(Self(owners)))
    }

    /// Whether this many dispatchers share the partitions evenly.
    pub(super) fn are_even(&self, dispatchers: usize) -> bool {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (owner, _) in self.0.values() {
            *counts.entry(owner).or_default() += 1;
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        let differ = most.zip(least).map_or(0, |(most, least)| most - least);
        counts.len() == dispatchers.min(self.0.len()) && differ <= 1
    }

    /// How many partitions have another owner, or had one meanwhile. An owner with an expired lease claims each of its
    /// partitions anew, in the next epoch.
    pub(super) fn changed(&self, later: &Self) -> usize {
        let same = |number: &u64, (owner, epoch): &(String, i64)| {
            let later = later.0.get(number);
            later.is_some_and(|(after, then)| after == owner && then - epoch <= 1)
        };
        let all = self.0.iter();
        all.filter(|(number, owner)| !same(number, owner)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(epoch: i64, owners: &[Option<&str>]) -> Option<Owners> {
        let rows: Vec<Value> = owners
            .iter()
            .enumerate()
            .map(|(number, owner)| {
                serde_json::json!({"partition": number, "owner": owner, "epoch": epoch, "heartbeat": owner.map(|_| 7)})
            })
            .collect();
        Owners::read(&serde_json::json!({ "partitions": rows }).to_string()).unwrap()
    }

    #[test]
    fn owners_are_compared_once_each_partition_has_one() {
        assert_eq!(of(1, &[Some("a"), None]), None);
        let owners = [Some("a"), Some("b"), Some("a")];
        let three = of(1, &owners).unwrap();
        assert!(three.are_even(2) && !three.are_even(3));
        assert!(!of(1, &[Some("a"); 3]).unwrap().are_even(2));
        for (changed, later) in [
            (0, of(2, &owners)),
            (3, of(3, &owners)),
            (1, of(2, &[Some("a"); 3])),
        ] {
            assert_eq!(three.changed(&later.unwrap()), changed);
        }
    }
}
