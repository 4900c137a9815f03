//! Rows of backlog queries.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer, SmallInt};
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;
use hookline_core::timestamp::Timestamp;

use crate::backlog::{BacklogRow, BacklogSubscription};
use crate::error::StoreError;
use crate::partitions::rows::read_partition;
use crate::rows::NextAttempt;

/// A delivery in the backlog.
#[derive(QueryableByName)]
pub(crate) struct MarkedRow {
    #[diesel(embed)]
    next: NextAttempt,
    #[diesel(sql_type = SmallInt)]
    backlog: i16,
    #[diesel(sql_type = BigInt)]
    due: i64,
}

impl TryFrom<MarkedRow> for BacklogRow {
    type Error = StoreError;

    fn try_from(row: MarkedRow) -> Result<Self, StoreError> {
        Ok(Self {
            task: row.next.into(),
            class: row.backlog.try_into()?,
            due: Timestamp::from_unix_micros(row.due),
        })
    }
}

/// A subscription with backlog.
#[derive(QueryableByName)]
pub(crate) struct BacklogSubscriptionRow {
    #[diesel(sql_type = Integer)]
    partition: i32,
    #[diesel(sql_type = BigInt)]
    subscription_id: i64,
    #[diesel(sql_type = SmallInt)]
    backlog: i16,
}

impl TryFrom<BacklogSubscriptionRow> for BacklogSubscription {
    type Error = StoreError;

    fn try_from(row: BacklogSubscriptionRow) -> Result<Self, StoreError> {
        Ok(Self {
            partition: read_partition(row.partition)?,
            subscription: SubscriptionId(row.subscription_id),
            class: row.backlog.try_into()?,
        })
    }
}

/// The place from which a list continues: `after`, or before the first entry.
pub(crate) fn behind(after: Option<BacklogSubscription>) -> (i32, i64, i16) {
    after.map_or((i32::MIN, i64::MIN, 0), |after| {
        let class = after.class.number();
        (number(after.partition), after.subscription.0, class)
    })
}

pub(crate) fn number(Partition(number): Partition) -> i32 {
    i32::from(number)
}
