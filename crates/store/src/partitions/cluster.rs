//! The dispatchers and partitions, as a heartbeat reads them.

use diesel::prelude::*;
use hookline_core::partition::{DispatcherId, Partitions};

use crate::backend::backends;
use crate::columns::UuidKey;
use crate::error::StoreError;
use crate::partitions::rows::{PartitionOwnerRow, read_count};
use crate::partitions::{ClusterState, PartitionOwner, RegisteredDispatcher};
use crate::schema::{dispatchers, partitioning};

backends!(
    use backend::Conn;

    pub(crate) fn count(conn: &mut Conn) -> Result<Partitions, StoreError> {
        let count = partitioning::table.find(1).select(partitioning::count);
        read_count(count.first(conn)?)
    }

    /// `owners` selects the rows of [`PartitionOwnerRow`].
    pub(crate) fn state(conn: &mut Conn, owners: &str) -> Result<ClusterState, StoreError> {
        let registered: Vec<(UuidKey, i64, bool, bool)> = dispatchers::table
            .select((
                dispatchers::id,
                dispatchers::heartbeat,
                dispatchers::draining,
                dispatchers::can_deliver,
            ))
            .load(conn)?;
        let held: Vec<PartitionOwnerRow> = diesel::sql_query(owners).load(conn)?;
        let registered = registered.into_iter();
        let held = held.into_iter().map(PartitionOwner::try_from);
        Ok(ClusterState {
            dispatchers: registered
                .map(
                    |(id, heartbeat, draining, can_deliver)| RegisteredDispatcher {
                        id: DispatcherId(id.0),
                        heartbeat,
                        draining,
                        can_deliver,
                    },
                )
                .collect(),
            partitions: held.collect::<Result<_, StoreError>>()?,
        })
    }
);
