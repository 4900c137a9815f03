//! How much is stored of each organization. The sum is kept with the events, in their transactions:
//! to count bodies whenever somebody asks would read all of them.

use std::collections::{BTreeMap, HashSet};

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::ids::OrganizationId;
use hookline_core::timestamp::Timestamp;

use super::super::Conn;
use crate::error::StoreError;
use crate::rows::organization;
use crate::schema::stored_bytes;

/// How many rows an organization has at most: so many can write at once.
const PARTS: u8 = 8;

pub(crate) struct Part<'a> {
    pub(crate) organization_id: &'a str,
    pub(crate) part: i32,
    pub(crate) bytes: i64,
}

/// What comes to organizations, or goes.
#[derive(Default)]
pub(crate) struct Change<'a> {
    /// In the order of the organizations, so that two of us never wait for each other in a circle.
    bytes: BTreeMap<&'a str, i64>,
}

impl<'a> Change<'a> {
    pub(crate) fn add(&mut self, organization: &'a str, bytes: i64) {
        *self.bytes.entry(organization).or_default() += bytes;
    }

    /// What is to be added to these rows. A transaction does so last, because others wait for them.
    pub(crate) fn into_parts(self, part: i32) -> Vec<Part<'a>> {
        self.bytes
            .into_iter()
            .map(|(organization_id, bytes)| Part {
                organization_id,
                part,
                bytes,
            })
            .collect()
    }
}

/// The row of an organization to which a transaction of this moment adds: the fastest byte of a time is as good as
/// chance, and a later try most likely chooses another row than one that is locked.
pub(crate) fn part_at(now: Timestamp) -> i32 {
    i32::from(now.unix_micros().to_le_bytes()[0] % PARTS)
}

/// How many bytes of events are kept of an organization.
pub(crate) fn of(conn: &mut Conn, owner: &OrganizationId) -> Result<u64, StoreError> {
    let parts: Vec<i64> = stored_bytes::table
        .filter(stored_bytes::organization_id.eq(owner.as_str()))
        .select(stored_bytes::bytes)
        .load(conn)?;
    Ok(u64::try_from(parts.into_iter().sum::<i64>()).unwrap_or(0))
}

/// The organizations of which so many bytes are kept, or more.
pub(crate) fn at_least(conn: &mut Conn, bytes: u64) -> Result<HashSet<OrganizationId>, StoreError> {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    let full: Vec<String> = stored_bytes::table
        .group_by(stored_bytes::organization_id)
        .having(sql::<BigInt>("sum(bytes)").ge(bytes))
        .select(stored_bytes::organization_id)
        .load(conn)?;
    full.iter().map(|id| organization(id)).collect()
}
