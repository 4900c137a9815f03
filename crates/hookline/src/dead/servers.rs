//! The dead letters of RabbitMQ, and what PostgreSQL knows of them.

use std::time::Duration;

use anyhow::Context as _;
use hookline_broker::contract::Scheduled;
use hookline_broker::rabbit::{DeadLetter, DeadQueue, Rabbit, RabbitSettings};
use hookline_core::timestamp::Timestamp;
use hookline_home::distributed;
use hookline_runtime::settings::Settings;
use hookline_store::Store;

use crate::dead::again::start_again;
use crate::dead::letter::{Exhibit, Letter, about_events, of_store};
use crate::dead::{Act, Aim, Done, Kind, Listed};

pub(super) struct Servers {
    store: Store,
    rabbit: Rabbit,
}

impl Servers {
    pub(super) async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let store = distributed::store(settings)?;
        let rabbit = Rabbit::connect(RabbitSettings {
            url: settings.broker.required_url()?.expose().to_owned(),
            name: "hookline dead".to_owned(),
            confirm_timeout: settings.broker.confirm_timeout,
        })
        .await?;
        store.check().await?;
        Ok(Self { store, rabbit })
    }

    pub(super) async fn list(&self, kind: Kind, limit: u32) -> anyhow::Result<Listed> {
        let mut inspection = self.rabbit.inspect(queue_of(kind)).await?;
        let mut listed = Listed::default();
        while listed.letters.len() < limit as usize
            && let Some(letter) = inspection.next().await?
        {
            listed.letters.push(summary(kind, &letter));
        }
        let seen = listed.letters.len() as u64;
        listed.more = inspection.waiting().saturating_sub(seen);
        inspection.end().await?;
        Ok(listed)
    }

    pub(super) async fn find(&self, aim: &Aim, depth: u32) -> anyhow::Result<Option<Exhibit>> {
        for kind in Kind::ALL {
            let mut inspection = self.rabbit.inspect(queue_of(kind)).await?;
            let mut found = None;
            for _ in 0..depth {
                match inspection.next().await? {
                    Some(letter) if aim.is_at(&letter.id()) => found = Some(letter),
                    Some(_) => continue,
                    None => {}
                }
                break;
            }
            inspection.end().await?;
            if let Some(letter) = found {
                let store = match letter.attempt() {
                    Some(owed) => of_store(&self.store, owed.delivery).await,
                    None => Vec::new(),
                };
                return Ok(Some(Exhibit {
                    letter: summary(kind, &letter),
                    content_type: letter.content_type().map(str::to_owned),
                    headers: letter.headers(),
                    body: letter.body().to_vec(),
                    store,
                }));
            }
        }
        Ok(None)
    }

    /// Only what was there at the beginning: a letter that comes back at once is not met again.
    pub(super) async fn act(&self, act: Act, aim: &Aim, depth: u32) -> anyhow::Result<Done> {
        let mut done = Done::default();
        for kind in aim.kinds() {
            let mut inspection = self.rabbit.inspect(queue_of(*kind)).await?;
            let there = match aim {
                Aim::One(_) => inspection.waiting().min(depth.into()),
                Aim::All(_) => inspection.waiting(),
            };
            for _ in 0..there {
                let Some(letter) = inspection.next().await? else {
                    break;
                };
                let id = letter.id();
                if !aim.is_at(&id) {
                    continue;
                }
                let settled = match act {
                    Act::Drop => Ok(()),
                    Act::Redrive => self.put_back(&letter).await?,
                };
                match settled {
                    Ok(()) => {
                        inspection.remove(&letter).await?;
                        done.tell(act, &id, *kind);
                    }
                    Err(why) => done.leave(&id, &why),
                }
            }
            inspection
                .end()
                .await
                .context("the broker may not have heard which ones are to be removed")?;
        }
        Ok(done)
    }

    pub(super) async fn close(self) {
        self.rabbit.close().await;
    }

    /// Returns once it is durable where it came from, or says why it has to stay.
    async fn put_back(&self, letter: &DeadLetter) -> anyhow::Result<Result<(), String>> {
        let publisher = self.rabbit.publisher();
        if let Some(events) = letter.events() {
            publisher.publish_events(events).await?;
            return Ok(Ok(()));
        }
        let Some(named) = letter.attempt() else {
            return Ok(Err("it names no delivery".to_owned()));
        };
        Ok(start_again(&self.store, named.delivery).await?.map(drop))
    }
}

fn queue_of(kind: Kind) -> DeadQueue {
    match kind {
        Kind::Event => DeadQueue::Events,
        Kind::Delivery => DeadQueue::Deliveries,
    }
}

fn summary(kind: Kind, letter: &DeadLetter) -> Letter {
    let since = letter.since().and_then(|seconds| {
        let seconds = i64::try_from(seconds).ok()?;
        Timestamp::from_seconds(seconds, 0).ok()
    });
    Letter {
        id: letter.id(),
        kind,
        reason: letter.reason(),
        since,
        size: letter.body().len() as u64,
        about: match (kind, letter.attempt()) {
            (Kind::Delivery, Some(owed)) => vec![
                ("delivery_id", owed.delivery.to_string()),
                ("subscription", owed.subscription.to_string()),
                ("attempt", owed.attempt.to_string()),
            ],
            (Kind::Delivery, None) => Vec::new(),
            (Kind::Event, _) => about_events(letter.content_type(), letter.body()),
        },
    }
}
