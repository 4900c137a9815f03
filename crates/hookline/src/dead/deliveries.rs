//! Deliveries that were put aside: rows of the store, on servers and in a folder alike.

use hookline_core::delivery::StartedBy;
use hookline_core::ids::DeliveryId;
use hookline_store::{DeadDelivery, RestartResult, Store};

use crate::dead::letter::{Exhibit, Letter};
use crate::dead::{Act, Aim, Done, Kind, Listed};
use crate::place::now;

/// How many are read at once.
const PAGE: u32 = 1_000;

pub(super) struct Deliveries {
    pub(super) store: Store,
}

impl Deliveries {
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

    pub(super) async fn find(&self, aim: &Aim) -> anyhow::Result<Option<Exhibit>> {
        let Some(row) = self.aimed_at(aim).await? else {
            return Ok(None);
        };
        let (mut store, mut body) = (Vec::new(), Vec::new());
        if let Err(why) = self.look(row.delivery, &mut store, &mut body).await {
            store.push(("error", why.to_string()));
        }
        Ok(Some(Exhibit {
            letter: summary(&row),
            content_type: None,
            headers: Vec::new(),
            body,
            store,
        }))
    }

    /// What the store says of a delivery, as far as it can be read, and what is to be sent.
    async fn look(
        &self,
        id: DeliveryId,
        said: &mut Vec<(&'static str, String)>,
        body: &mut Vec<u8>,
    ) -> anyhow::Result<()> {
        let Some(owed) = self.store.owed(vec![id]).await?.remove(&id) else {
            return Ok(());
        };
        said.extend([
            ("organization", owed.organization.to_string()),
            ("subscription", owed.subscription.to_string()),
            ("attempts_made", owed.attempts.to_string()),
            ("event_type", owed.event_type.as_str().to_owned()),
        ]);
        let story = self.store.delivery(owed.organization, id, 1, None).await?;
        if let Some(story) = story {
            let delivery = story.delivery;
            said.push(("state", delivery.status.as_str().to_owned()));
            said.push(("event_id", delivery.event_id.to_string()));
            *body = story.request_body.into_bytes();
        }
        Ok(())
    }

    /// Only what was there at the beginning: a delivery that is put aside again meanwhile stays.
    pub(super) async fn act(&self, act: Act, aim: &Aim) -> anyhow::Result<Done> {
        let mut done = Done::default();
        let rows = match aim {
            Aim::One(_) => Vec::from_iter(self.aimed_at(aim).await?),
            Aim::All(_) => self.oldest(u32::MAX).await?,
        };
        for DeadDelivery { delivery, .. } in rows {
            let id = delivery.to_string();
            match act {
                Act::Redrive => match self.restart(delivery).await? {
                    Ok(()) => done.tell(act, &id, Kind::Delivery),
                    Err(why) => done.leave(&id, why),
                },
                // The answer is false where another command was faster.
                Act::Drop if self.store.drop_dead_delivery(delivery).await? => {
                    done.tell(act, &id, Kind::Delivery);
                }
                Act::Drop => {}
            }
        }
        Ok(done)
    }

    /// Starts a delivery again as a retry by hand does, or says why it stays. Charges are taken back first: without
    /// that its next trial would be its last.
    async fn restart(&self, id: DeliveryId) -> anyhow::Result<Result<(), &'static str>> {
        self.store.clear_crash_counts(vec![id.into()]).await?;
        // It is due by the clock of the dispatchers.
        let due = self.store.clock().await.unwrap_or_else(now);
        let again = self.store.restart(None, id, StartedBy::Retry, due).await?;
        Ok(match again {
            RestartResult::Started(_) => Ok(()),
            RestartResult::Unknown => Err("the retention has forgotten it"),
            RestartResult::Pending => Err("it was started again just now"),
            RestartResult::Inactive => Err("its subscription is inactive"),
            RestartResult::Deleted => Err("its subscription was deleted"),
        })
    }

    async fn aimed_at(&self, aim: &Aim) -> anyhow::Result<Option<DeadDelivery>> {
        let Aim::One(id) = aim else { return Ok(None) };
        match id.parse() {
            Ok(id) => Ok(self.store.find_dead_delivery(DeliveryId(id)).await?),
            Err(_) => Ok(None),
        }
    }

    /// The oldest ones, at most so many.
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
        kind: Kind::Delivery,
        reason: row.reason.clone(),
        since: Some(row.since),
        size: None,
        about: Vec::new(),
    }
}
