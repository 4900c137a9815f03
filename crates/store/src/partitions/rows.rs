//! Rows of partition queries.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use hookline_core::partition::{DispatcherId, Partition, Partitions};

use crate::columns::{UuidColumn, UuidKey};
use crate::error::StoreError;
use crate::partitions::{PartitionCounts, PartitionOwner};

/// A row of `partitions`; `deaths` is 0 where the last was too long ago.
#[derive(QueryableByName)]
pub(crate) struct PartitionOwnerRow {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = Nullable<UuidColumn>)]
    owner: Option<UuidKey>,
    #[diesel(sql_type = BigInt)]
    epoch: i64,
    #[diesel(sql_type = Integer)]
    deaths: i32,
    #[diesel(sql_type = Text)]
    note: String,
}

impl TryFrom<PartitionOwnerRow> for PartitionOwner {
    type Error = StoreError;

    fn try_from(row: PartitionOwnerRow) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            owner: row.owner.map(|owner| DispatcherId(owner.0)),
            epoch: row.epoch,
            deaths: row.deaths.unsigned_abs(),
            note: row.note,
        })
    }
}

#[derive(QueryableByName)]
pub(crate) struct PartitionCountsRow {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    due: i64,
    #[diesel(sql_type = BigInt)]
    backlog: i64,
    #[diesel(sql_type = BigInt)]
    later: i64,
}

impl TryFrom<PartitionCountsRow> for PartitionCounts {
    type Error = StoreError;

    fn try_from(row: PartitionCountsRow) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            due: row.due.unsigned_abs(),
            backlog: row.backlog.unsigned_abs(),
            later: row.later.unsigned_abs(),
        })
    }
}

pub(crate) fn read_partition(number: i32) -> Result<Partition, StoreError> {
    u16::try_from(number)
        .map(Partition)
        .map_err(|_| StoreError::Corrupt(format!("partition: {number}")))
}

pub(crate) fn read_count(number: i32) -> Result<Partitions, StoreError> {
    u16::try_from(number)
        .ok()
        .and_then(Partitions::new)
        .ok_or_else(|| StoreError::Corrupt(format!("number of partitions: {number}")))
}
