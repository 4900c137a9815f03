//! Queries of the storage usage. The sums change in the transactions of the events, because counting bodies would read
//! all of them.

use std::collections::HashSet;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use hookline_core::ids::OrganizationId;

use crate::backend::backends;
use crate::error::StoreError;
use crate::rows::organization;
use crate::schema::storage_usage;

backends!(
    use backend::Conn;

    pub(crate) fn of(conn: &mut Conn, owner: &OrganizationId) -> Result<u64, StoreError> {
        let shards: Vec<i64> = storage_usage::table
            .filter(storage_usage::organization_id.eq(owner.as_str()))
            .select(storage_usage::bytes)
            .load(conn)?;
        Ok(u64::try_from(shards.into_iter().sum::<i64>()).unwrap_or(0))
    }

    pub(crate) fn at_least(
        conn: &mut Conn,
        bytes: u64,
    ) -> Result<HashSet<OrganizationId>, StoreError> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let full: Vec<String> = storage_usage::table
            .group_by(storage_usage::organization_id)
            .having(sql::<BigInt>("sum(bytes)").ge(bytes))
            .select(storage_usage::organization_id)
            .load(conn)?;
        full.iter().map(|id| organization(id)).collect()
    }
);
