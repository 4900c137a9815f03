//! Rejected events of RabbitMQ.

use anyhow::Context as _;
use hookline_core::timestamp::Timestamp;
use hookline_queue_rabbitmq::{DeadLetter, Rabbit, RabbitSettings};
use hookline_runtime::settings::Settings;

use crate::dead_letters::letter::{Letter, LetterDetails, Listed, about_events};
use crate::dead_letters::outcome::Outcome;
use crate::dead_letters::selection::{Action, DeadLetterKind, Selection};

pub(super) struct RabbitLetters {
    rabbit: Rabbit,
}

impl RabbitLetters {
    pub(super) async fn connect(settings: &Settings) -> anyhow::Result<Self> {
        let rabbit = Rabbit::connect(RabbitSettings {
            url: settings.broker.required_url()?.expose().to_owned(),
            name: "hookline dead-letters".to_owned(),
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

    pub(super) async fn find(
        self,
        selection: &Selection,
        search_limit: u32,
    ) -> anyhow::Result<Option<LetterDetails>> {
        let mut inspection = self.rabbit.inspect().await?;
        let mut found = None;
        for _ in 0..search_limit {
            match inspection.next().await? {
                Some(letter) if selection.has(&letter.id()) => found = Some(letter),
                Some(_) => continue,
                None => {}
            }
            break;
        }
        inspection.end().await?;
        self.rabbit.close().await;
        Ok(found.map(|letter| LetterDetails {
            letter: summary(&letter),
            content_type: letter.content_type().map(str::to_owned),
            headers: letter.headers(),
            body: letter.body().to_vec(),
            store: Vec::new(),
        }))
    }

    /// Only letters that were there at the beginning. One that is rejected again at once is not handled twice.
    pub(super) async fn act(
        self,
        action: Action,
        selection: &Selection,
        search_limit: u32,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut inspection = self.rabbit.inspect().await?;
        let count = match selection {
            Selection::One(_) => inspection.waiting().min(search_limit.into()),
            Selection::All(_) => inspection.waiting(),
        };
        for _ in 0..count {
            let Some(letter) = inspection.next().await? else {
                break;
            };
            let id = letter.id();
            if !selection.has(&id) {
                continue;
            }
            if action == Action::Redrive {
                // The event is durable in its old queue before it is removed here.
                let events = letter.events();
                self.rabbit.publisher().publish_events(events).await?;
            }
            inspection.remove(&letter).await?;
            outcome.done(action, &id, DeadLetterKind::Event);
        }
        inspection
            .end()
            .await
            .context("the broker may not have removed all of them")?;
        self.rabbit.close().await;
        Ok(outcome)
    }
}

fn summary(letter: &DeadLetter) -> Letter {
    let since = letter.since().and_then(|seconds| {
        let seconds = i64::try_from(seconds).ok()?;
        Timestamp::from_seconds(seconds, 0).ok()
    });
    Letter {
        id: letter.id(),
        kind: DeadLetterKind::Event,
        reason: letter.reason(),
        since,
        size: Some(letter.body().len() as u64),
        about: about_events(letter.content_type(), letter.body()),
    }
}
