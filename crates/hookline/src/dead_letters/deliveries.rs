//! Dead-lettered deliveries: rows of the store, in PostgreSQL and in a folder alike.

use hookline_core::delivery::StartedBy;
use hookline_core::ids::DeliveryId;
use hookline_store::{DeadDelivery, RestartResult, Store};

use crate::dead_letters::letter::{Letter, LetterDetails, Listed};
use crate::dead_letters::outcome::Outcome;
use crate::dead_letters::selection::{Action, DeadLetterKind, Selection};
use crate::target_store::now;

const PAGE: u32 = 1_000;

pub(super) struct DeadDeliveries {
    pub(super) store: Store,
}

impl DeadDeliveries {
    pub(super) async fn list(&self, limit: u32) -> anyhow::Result<Listed> {
        let count = self.store.count_dead_deliveries().await?;
        let rows = self.oldest(limit).await?;
        let ids = rows.iter().map(|row| row.delivery).collect();
        let mut sources = self.store.sources(ids).await?;
        let letters = rows.into_iter().map(|row| {
            let mut letter = summary(&row);
            if let Some(source) = sources.remove(&row.delivery) {
                letter.about = vec![
                    ("organization", source.organization),
                    ("subscription", source.subscription.to_string()),
                ];
                letter
                    .about
                    .extend(source.event.map(|event| ("event_id", event)));
            }
            letter
        });
        let letters: Vec<Letter> = letters.collect();
        let more = count.saturating_sub(letters.len() as u64);
        Ok(Listed { letters, more })
    }

    pub(super) async fn find(
        &self,
        selection: &Selection,
    ) -> anyhow::Result<Option<LetterDetails>> {
        let Some(row) = self.selected(selection).await? else {
            return Ok(None);
        };
        let (mut store, mut body) = (Vec::new(), Vec::new());
        if let Err(why) = self.load(row.delivery, &mut store, &mut body).await {
            store.push(("error", why.to_string()));
        }
        Ok(Some(LetterDetails {
            letter: summary(&row),
            content_type: None,
            headers: Vec::new(),
            body,
            store,
        }))
    }

    /// The delivery's data in the store, as far as it can be read, and the body of its requests.
    async fn load(
        &self,
        id: DeliveryId,
        data: &mut Vec<(&'static str, String)>,
        body: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let Some(delivery) = self.store.due_deliveries(vec![id]).await?.remove(&id) else {
            return Ok(());
        };
        data.extend([
            ("organization", delivery.organization.to_string()),
            ("subscription", delivery.subscription.to_string()),
            ("attempts_made", delivery.attempts.to_string()),
            ("event_type", delivery.event_type.as_str().to_owned()),
        ]);
        let details = self
            .store
            .delivery(delivery.organization, id, 1, None)
            .await?;
        if let Some(details) = details {
            let delivery = details.delivery;
            data.push(("state", delivery.status.as_str().to_owned()));
            data.push(("event_id", delivery.event_id.to_string()));
            *body = details.request_body.into_bytes();
        }
        Ok(())
    }

    /// Only deliveries that were there at the beginning. One that is dead-lettered again meanwhile stays.
    pub(super) async fn act(
        &self,
        action: Action,
        selection: &Selection,
    ) -> anyhow::Result<Outcome> {
        let mut outcome = Outcome::default();
        let rows = match selection {
            Selection::One(_) => Vec::from_iter(self.selected(selection).await?),
            Selection::All(_) => self.oldest(u32::MAX).await?,
        };
        for DeadDelivery { delivery, .. } in rows {
            let id = delivery.to_string();
            match action {
                Action::Redrive => match self.restart(delivery).await? {
                    Ok(()) => outcome.done(action, &id, DeadLetterKind::Delivery),
                    Err(why) => outcome.kept(&id, why),
                },
                // The result is false where another command was faster.
                Action::Drop if self.store.drop_dead_delivery(delivery).await? => {
                    outcome.done(action, &id, DeadLetterKind::Delivery);
                }
                Action::Drop => {}
            }
        }
        Ok(outcome)
    }

    /// Starts a delivery again as a manual retry does, or returns why it stays. Its crash count is reset first, or the
    /// next attempt in quarantine would be its last.
    async fn restart(&self, id: DeliveryId) -> anyhow::Result<Result<(), &'static str>> {
        self.store.clear_crash_counts(vec![id.into()]).await?;
        // Dispatchers compare due times with the clock of the database.
        let due = self.store.clock().await.unwrap_or_else(now);
        let again = self.store.restart(None, id, StartedBy::Retry, due).await?;
        Ok(match again {
            RestartResult::Started(_) => Ok(()),
            RestartResult::Unknown => Err("its data has passed the retention period"),
            RestartResult::Pending | RestartResult::Delivered => {
                Err("it was started again just now")
            }
            RestartResult::Inactive => Err("its subscription is inactive"),
            RestartResult::Deleted => Err("its subscription was deleted"),
        })
    }

    async fn selected(&self, selection: &Selection) -> anyhow::Result<Option<DeadDelivery>> {
        let Selection::One(id) = selection else {
            return Ok(None);
        };
        match id.parse() {
            Ok(id) => Ok(self.store.find_dead_delivery(DeliveryId(id)).await?),
            Err(_) => Ok(None),
        }
    }

    async fn oldest(&self, limit: u32) -> anyhow::Result<Vec<DeadDelivery>> {
        let limit = limit as usize;
        let mut rows: Vec<DeadDelivery> = Vec::new();
        while rows.len() < limit {
            let after = rows.last().map(|last| (last.since, last.delivery));
            let page = self.store.dead_deliveries(after, PAGE).await?;
            if page.is_empty() {
                break;
            }
            rows.extend(page);
        }
        rows.truncate(limit);
        Ok(rows)
    }
}

fn summary(row: &DeadDelivery) -> Letter {
    Letter {
        id: row.delivery.to_string(),
        kind: DeadLetterKind::Delivery,
        reason: row.reason.clone(),
        since: Some(row.since),
        size: None,
        about: Vec::new(),
    }
}
