//! Rejected events of a folder, read beside the process that serves the folder.

use hookline_store::{EmbeddedDeadLetter, EmbeddedDeadLetters};

use crate::dead_letters::letter::{Letter, LetterDetails, Listed, about_events};
use crate::dead_letters::outcome::Outcome;
use crate::dead_letters::selection::{Action, DeadLetterKind, Selection};

const PAGE: usize = 100;

pub(super) struct FolderLetters {
    pub(super) letters: EmbeddedDeadLetters,
}

impl FolderLetters {
    pub(super) async fn list(&self, limit: u32) -> anyhow::Result<Listed> {
        let count = self.letters.count().await?;
        let mut letters = Vec::new();
        self.each(limit as usize, |letter| letters.push(summary(&letter)))
            .await?;
        let more = count.saturating_sub(letters.len() as u64);
        Ok(Listed { letters, more })
    }

    pub(super) async fn find(
        &self,
        selection: &Selection,
    ) -> anyhow::Result<Option<LetterDetails>> {
        let Some(letter) = self.selected(selection).await? else {
            return Ok(None);
        };
        let trace = letter.traceparent.clone();
        Ok(Some(LetterDetails {
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

    pub(super) async fn act(
        &self,
        action: Action,
        selection: &Selection,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut ids = Vec::new();
        match selection {
            Selection::One(_) => ids.extend(self.selected(selection).await?.map(|one| one.id)),
            Selection::All(_) => {
                self.each(usize::MAX, |letter| ids.push(letter.id)).await?;
            }
        }
        for id in ids {
            let is_done = match action {
                Action::Drop => self.letters.drop(id).await?,
                Action::Redrive => self.letters.redrive(id).await?,
            };
            // Otherwise another command was faster.
            if is_done {
                outcome.done(action, &id.to_string(), DeadLetterKind::Event);
            }
        }
        Ok(outcome)
    }

    async fn selected(&self, selection: &Selection) -> anyhow::Result<Option<EmbeddedDeadLetter>> {
        let Selection::One(id) = selection else {
            return Ok(None);
        };
        match id.parse() {
            Ok(number) => Ok(self.letters.find(number).await?),
            Err(_) => Ok(None),
        }
    }

    /// Visits the oldest letters, at most `max`.
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
        kind: DeadLetterKind::Event,
        reason: letter.reason.clone(),
        since: Some(letter.since()),
        size: Some(letter.size()),
        about: about_events(letter.content_type.as_deref(), &letter.body),
    }
}
