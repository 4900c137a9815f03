//! Rejected events of RabbitMQ.

use anyhow::Context as _;
use hookline_core::timestamp::Timestamp;
use hookline_queue_rabbitmq::{DeadLetter, Rabbit, RabbitSettings};
use hookline_runtime::settings::Settings;

use crate::dead::letter::{Exhibit, Letter, about_events};
use crate::dead::{Act, Aim, Done, Kind, Listed};

pub(super) struct Servers {
    rabbit: Rabbit,
}

impl Servers {
    pub(super) async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let rabbit = Rabbit::connect(RabbitSettings {
            url: settings.broker.required_url()?.expose().to_owned(),
            name: "hookline dead".to_owned(),
            confirm_timeout: settings.broker.confirm_timeout,
        })
        .await?;
        Ok(Self { rabbit })
    }

    pub(super) async fn list(self, limit: u32) -> anyhow::Result<Listed> {
        let mut inspection = self.rabbit.inspect().await?;
        let mut listed = Listed::default();
        while listed.letters.len() < limit as usize
            && let Some(letter) = inspection.next().await?
        {
            listed.letters.push(summary(&letter));
        }
        let seen = listed.letters.len() as u64;
        listed.more = inspection.waiting().saturating_sub(seen);
        inspection.end().await?;
        self.rabbit.close().await;
        Ok(listed)
    }

    pub(super) async fn find(self, aim: &Aim, depth: u32) -> anyhow::Result<Option<Exhibit>> {
        let mut inspection = self.rabbit.inspect().await?;
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
        self.rabbit.close().await;
        Ok(found.map(|letter| Exhibit {
            letter: summary(&letter),
            content_type: letter.content_type().map(str::to_owned),
            headers: letter.headers(),
            body: letter.body().to_vec(),
            store: Vec::new(),
        }))
    }

    /// Only what was there at the beginning: a letter that comes back at once is not met again.
    pub(super) async fn act(self, act: Act, aim: &Aim, depth: u32) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut inspection = self.rabbit.inspect().await?;
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
            if act == Act::Redrive {
                // It is durable where it came from before it is removed here.
                let events = letter.events();
                self.rabbit.publisher().publish_events(events).await?;
            }
            inspection.remove(&letter).await?;
            done.tell(act, &id, Kind::Event);
        }
        inspection
            .end()
            .await
            .context("the broker may not have heard which ones are to be removed")?;
        self.rabbit.close().await;
        Ok(done)
    }
}

fn summary(letter: &DeadLetter) -> Letter {
    let since = letter.since().and_then(|seconds| {
        let seconds = i64::try_from(seconds).ok()?;
        Timestamp::from_seconds(seconds, 0).ok()
    });
    Letter {
        id: letter.id(),
        kind: Kind::Event,
        reason: letter.reason(),
        since,
        size: Some(letter.body().len() as u64),
        about: about_events(letter.content_type(), letter.body()),
    }
}
