//! SQL of the storage usage for SQLite.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, Text};

use crate::backend::sqlite::Conn;
use crate::backend::sqlite::prepared::prepared;
use crate::error::StoreError;
use crate::usage::UsageShard;

pub(crate) fn add_stored(conn: &mut Conn, shards: &[UsageShard<'_>]) -> Result<(), StoreError> {
    for shard in shards {
        prepared(
            "INSERT INTO storage_usage (organization_id, shard, bytes) VALUES (?, ?, ?)
             ON CONFLICT (organization_id, shard) DO UPDATE SET bytes = bytes + excluded.bytes",
            &[
                &shard.organization_id.into_sql::<Text>(),
                &shard.shard.into_sql::<Integer>(),
                &shard.bytes.into_sql::<BigInt>(),
            ],
        )
        .execute(conn)?;
    }
    Ok(())
}
