//! Storage usage: the bytes of events that are kept of each organization.

use std::collections::{BTreeMap, HashSet};

use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::store::{Store, run};

pub(crate) mod postgres;
pub(crate) mod sql;
pub(crate) mod sqlite;

/// Shards of an organization's sum: the number of transactions that can write at once.
pub(crate) const SHARDS: u8 = 8;

pub(crate) struct UsageShard<'a> {
    pub(crate) organization_id: &'a str,
    pub(crate) shard: i32,
    pub(crate) bytes: i64,
}

/// Bytes to add to organizations, or to subtract.
#[derive(Default)]
pub(crate) struct UsageChange<'a> {
    /// In the order of organizations, so that two transactions never deadlock.
    bytes: BTreeMap<&'a str, i64>,
}

impl<'a> UsageChange<'a> {
    pub(crate) fn add(&mut self, organization: &'a str, bytes: i64) {
        *self.bytes.entry(organization).or_default() += bytes;
    }

    /// A transaction writes these rows last, because others wait for them.
    pub(crate) fn into_shards(self, shard: i32) -> Vec<UsageShard<'a>> {
        self.bytes
            .into_iter()
            .map(|(organization_id, bytes)| UsageShard {
                organization_id,
                shard,
                bytes,
            })
            .collect()
    }
}

/// The shard for a transaction at `now`: the fastest byte of the time is as good as random, and a retry most likely picks
/// another shard than a locked one.
pub(crate) fn shard_at(now: Timestamp) -> i32 {
    i32::from(now.unix_micros().to_le_bytes()[0] % SHARDS)
}

impl Store {
    pub async fn stored_bytes(&self, owner: OrganizationId) -> Result<u64, StoreError> {
        run!(self, read, |conn, q: sql| q::of(conn, &owner))
    }

    /// The organizations with at least this many bytes.
    pub async fn organizations_over_quota(
        &self,
        bytes: u64,
    ) -> Result<HashSet<OrganizationId>, StoreError> {
        run!(self, read, |conn, q: sql| q::at_least(conn, bytes))
    }
}
