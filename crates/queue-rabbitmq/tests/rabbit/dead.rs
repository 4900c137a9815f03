//! Inspecting dead letters, and publishing them again.

use hookline_queue_rabbitmq::{DeadLetter, Rabbit};
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicRejectOptions};

use crate::broker::{Vhost, eventually, number_of, publish, receive_all};

const QUEUE: &str = "hookline.events.rejected";

/// Dead letters with these bytes, numbered from 0.
async fn dead_events(vhost: &Vhost, count: u16) {
    let other_client = vhost.other_client().await;
    for number in 0..count {
        let with = BasicProperties::default().with_delivery_mode(2);
        other_client
            .publish("", QUEUE, &number.to_be_bytes(), with)
            .await;
    }
}

async fn look(rabbit: &Rabbit) -> Vec<DeadLetter> {
    let mut inspection = rabbit.inspect().await.unwrap();
    let mut letters = Vec::new();
    while let Some(letter) = inspection.next().await.unwrap() {
        letters.push(letter);
    }
    inspection.end().await.unwrap();
    letters
}

fn numbers(letters: &[DeadLetter]) -> Vec<u16> {
    let number = |letter: &DeadLetter| u16::from_be_bytes([letter.body()[0], letter.body()[1]]);
    letters.iter().map(number).collect()
}

async fn all_there(rabbit: &Rabbit, count: u64) {
    let publisher = rabbit.publisher();
    eventually(async || publisher.rejected_count().await.unwrap() == count).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_inspections_lose_no_dead_letter() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    dead_events(&vhost, 60).await;
    all_there(&rabbit, 60).await;
    let ids = async || {
        let letters = look(&rabbit).await;
        let mut ids: Vec<String> = letters.iter().map(DeadLetter::id).collect();
        ids.sort_unstable();
        (numbers(&letters)[0], ids)
    };
    let first = ids().await;
    for _ in 0..50 {
        all_there(&rabbit, 60).await;
        // The oldest stays the first; RabbitMQ 3.10 changes the order of some others.
        assert_eq!(ids().await, first, "an id is the same in each inspection");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_inspections_see_different_dead_letters_and_a_killed_command_leaves_all() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    dead_events(&vhost, 3).await;
    all_there(&rabbit, 3).await;
    let killed = vhost.connect().await;
    let mut first = killed.inspect().await.unwrap();
    assert_eq!(first.waiting(), 3);
    let letter = first.next().await.unwrap().unwrap();
    assert_eq!(numbers(&[letter]), [0]);
    assert_eq!(numbers(&look(&rabbit).await), [1, 2]);
    vhost.close_all_connections();
    drop((first, killed));

    let rabbit = vhost.connect().await;
    all_there(&rabbit, 3).await;
    let mut found = numbers(&look(&rabbit).await);
    found.sort_unstable();
    assert_eq!(found, [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_dead_letter_is_gone_and_the_others_stay() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    dead_events(&vhost, 3).await;
    all_there(&rabbit, 3).await;
    let mut inspection = rabbit.inspect().await.unwrap();
    inspection.next().await.unwrap().unwrap();
    let second = inspection.next().await.unwrap().unwrap();
    inspection.remove(&second).await.unwrap();
    inspection.end().await.unwrap();
    all_there(&rabbit, 2).await;
    assert_eq!(numbers(&look(&rabbit).await), [0, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_has_reason_and_time_whether_hookline_or_the_broker_moved_it() {
    let vhost = Vhost::create();
    let rabbit = vhost.connect().await;
    let consumer = rabbit.events(10);
    publish(&rabbit.publisher(), 1..3).await.unwrap();
    let mut received = receive_all(&consumer, 2).await;
    received.sort_unstable_by_key(number_of);
    consumer
        .dead_letter(received.remove(1), "we did")
        .await
        .unwrap();
    consumer.requeue(received).await;
    consumer.stop();
    let ahead = consumer.receive(10).await;
    consumer.requeue(ahead).await;
    rabbit.close().await;
    // The broker dead-letters it after 50 returns, without our own count.
    let other_client = vhost.other_client().await;
    let rabbit = vhost.connect().await;
    let publisher = rabbit.publisher();
    eventually(async || {
        let options = BasicGetOptions::default();
        let get = || {
            other_client
                .channel
                .basic_get("hookline.events".into(), options)
        };
        while let Some(message) = get().await.unwrap() {
            let requeue = BasicRejectOptions { requeue: true };
            let tag = message.delivery.delivery_tag;
            other_client
                .channel
                .basic_reject(tag, requeue)
                .await
                .unwrap();
        }
        publisher.rejected_count().await.unwrap() == 2
    })
    .await;
    let mut inspection = rabbit.inspect().await.unwrap();
    let mut reasons = Vec::new();
    while let Some(letter) = inspection.next().await.unwrap() {
        assert!(letter.since().is_some(), "{letter:?}");
        reasons.push((letter.body().clone(), letter.reason()));
    }
    inspection.end().await.unwrap();
    reasons.sort_unstable();
    let by_broker = "dead-lettered by the broker: delivery_limit, after too many returns";
    assert_eq!(
        reasons,
        [
            ("1".into(), by_broker.to_owned()),
            ("2".into(), "we did".to_owned())
        ]
    );
}
