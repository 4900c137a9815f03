//! Rejected events of a folder, beside the process that delivers from it.

use hookline_store::{EmbeddedDeadLetter, EmbeddedDeadLetters};

use crate::dead::letter::{Exhibit, Letter, about_events};
use crate::dead::{Act, Aim, Done, Kind, Listed};

/// How many are read at once.
const PAGE: usize = 100;

pub(super) struct Folder {
    pub(super) letters: EmbeddedDeadLetters,
}

impl Folder {
    pub(super) async fn list(&self, limit: u32) -> anyhow::Result<Listed> {
        let count = self.letters.count().await?;
        let mut letters = Vec::new();
        self.each(limit as usize, |letter| letters.push(summary(&letter)))
            .await?;
        let more = count.saturating_sub(letters.len() as u64);
        Ok(Listed { letters, more })
    }

    pub(super) async fn find(&self, aim: &Aim) -> anyhow::Result<Option<Exhibit>> {
        let Some(letter) = self.aimed_at(aim).await? else {
            return Ok(None);
        };
        let trace = letter.traceparent.clone();
        Ok(Some(Exhibit {
            letter: summary(&letter),
            content_type: letter.content_type,
            headers: trace
                .into_iter()
                .map(|trace| ("traceparent".to_owned(), trace))
                .collect(),
            body: letter.body,
            store: Vec::new(),
        }))
    }

    pub(super) async fn act(&self, act: Act, aim: &Aim) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let mut aimed = Vec::new();
        match aim {
            Aim::One(_) => aimed.extend(self.aimed_at(aim).await?.map(|one| one.id)),
            Aim::All(_) => {
                self.each(usize::MAX, |letter| aimed.push(letter.id))
                    .await?;
            }
        }
        for id in aimed {
            let is_done = match act {
                Act::Drop => self.letters.drop(id).await?,
                Act::Redrive => self.letters.redrive(id).await?,
            };
            // Else another command was faster.
            if is_done {
                done.tell(act, &id.to_string(), Kind::Event);
            }
        }
        Ok(done)
    }

    async fn aimed_at(&self, aim: &Aim) -> anyhow::Result<Option<EmbeddedDeadLetter>> {
        let Aim::One(id) = aim else { return Ok(None) };
        match id.parse() {
            Ok(number) => Ok(self.letters.find(number).await?),
            Err(_) => Ok(None),
        }
    }

    /// Visits the oldest ones, at most so many.
    async fn each(
        &self,
        max: usize,
        mut visit: impl FnMut(EmbeddedDeadLetter),
    ) -> anyhow::Result<()> {
        let (mut after, mut left) = (0, max);
        loop {
            let page = self.letters.page(after, PAGE.min(left)).await?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            (after, left) = (last.id, left - page.len());
            page.into_iter().for_each(&mut visit);
        }
    }
}

fn summary(letter: &EmbeddedDeadLetter) -> Letter {
    Letter {
        id: letter.id.to_string(),
        kind: Kind::Event,
        reason: letter.reason.clone(),
        since: Some(letter.since()),
        size: Some(letter.size()),
        about: about_events(letter.content_type.as_deref(), &letter.body),
    }
}
