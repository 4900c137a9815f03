use hookline_core::delivery::AttemptTask;
use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partitions;
use hookline_store::PartitionOwner;
use uuid::Uuid;

use super::*;
use crate::ownership::OwnedPartitions;

fn at() -> Timestamp {
    Timestamp::from_unix_micros(1_766_313_000_000_000)
}

fn row(number: u128, subscription: i64, partition: u16) -> DueAttempt {
    DueAttempt {
        task: AttemptTask {
            delivery: DeliveryId(Uuid::from_u128(number)),
            generation: 0,
            attempt: 1,
            subscription: SubscriptionId(subscription),
        },
        partition: Partition(partition),
        due: at(),
    }
}

#[test]
fn a_row_in_the_wrong_partition_is_moved_unless_its_delivery_is_in_hand() {
    // The earlier owner has a request to subscription 7 in flight.
    let until = at().after(Duration::from_secs(9)).unix_micros();
    let in_flight = format!(r#"[{{"subscription":7,"until":{until}}}]"#);
    let holding = |partition| PartitionOwner {
        partition: Partition(partition),
        owner: None,
        epoch: 7,
        deaths: 0,
        note: in_flight.clone(),
    };
    let four = Partitions::new(4).unwrap();
    let owned = OwnedPartitions::all(&[holding(0), holding(1)], four, at());
    let rows = DueRows::new(Default::default(), owned);
    // Subscription 2 was in partition 0 and subscription 3 in partition 1, of two partitions.
    let in_hand = row(1, 3, 1);
    rows.add_looked_up(&[in_hand]);
    let taken = rows.take_now(1);
    assert_eq!(taken.len(), 1);
    let found = [
        in_hand,
        row(2, 3, 1),
        row(3, 5, 1),
        row(4, 2, 0),
        row(5, 7, 1),
    ];
    let (own, misfiled) = rows.separate(&found, at());
    assert_eq!(own, [row(3, 5, 1)]);
    let numbers: Vec<_> = misfiled.iter().map(|id| id.0.as_u128()).collect();
    assert_eq!(numbers, [2, 4]);
    drop(taken);
    assert_eq!(rows.separate(&found, at()).1.len(), 3);
}
