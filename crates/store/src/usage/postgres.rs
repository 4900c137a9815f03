//! SQL of the storage usage for PostgreSQL.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::backend::ROWS;
use crate::backend::postgres::Conn;
use crate::backend::postgres::unnest::{BulkStatement, UnnestRows};
use crate::error::StoreError;
use crate::usage::UsageShard;

pub(crate) fn add_stored(conn: &mut Conn, shards: &[UsageShard<'_>]) -> Result<(), StoreError> {
    for shards in shards.chunks(ROWS) {
        adding_stored(shards).execute(conn)?;
    }
    Ok(())
}

pub(crate) fn adding_stored<'a>(shards: &'a [UsageShard<'_>]) -> BulkStatement<'a> {
    UnnestRows::default()
        .column::<Text, _>(
            "organization_id",
            shards.iter().map(|shard| shard.organization_id),
        )
        .column::<Integer, _>("shard", shards.iter().map(|shard| shard.shard))
        .column::<BigInt, _>("bytes", shards.iter().map(|shard| shard.bytes))
        .inserted_into(
            "storage_usage AS s",
            "ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = s.bytes + excluded.bytes",
        )
}
