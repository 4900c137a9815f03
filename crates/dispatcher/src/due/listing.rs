//! Lists the subscriptions with backlog.
//!
//! The owner of a partition reads the list when it takes the partition, before the first look. It keeps the list in
//! memory from then on. A list every few seconds finds the deliveries that a replay has started. It also finds the rows
//! of a statement that marked them without an answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use hookline_core::ids::SubscriptionId;
use hookline_core::partition::Partition;
use hookline_store::{BacklogSubscription, Store, StoreError};

use super::known::BacklogNews;
use super::rows::DueRows;

/// The time between two lists.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The pause after a list of many subscriptions, in multiples of the time that the list took.
const REST: u32 = 20;

pub(super) struct BacklogListing {
    rows: DueRows,
    store: Store,
    next: Option<Instant>,
}

impl BacklogListing {
    pub(super) fn new(rows: DueRows, store: Store) -> Self {
        Self {
            rows,
            store,
            next: None,
        }
    }

    /// Lists all backlog of this dispatcher when it is time, or where partitions were just taken.
    pub(super) async fn list(&mut self, new: &[Partition], now: Instant) -> Result<(), StoreError> {
        if new.is_empty() && self.next.is_some_and(|next| now < next) {
            return Ok(());
        }
        let breakers = match new {
            [] => HashMap::new(),
            _ => self.breakers(new).await?,
        };
        let mut backlog_news = BacklogNews::default();
        let mut page = self.store.list_backlog(None).await?;
        while let Some(last) = page.last().copied() {
            for one in page {
                self.add(&mut backlog_news, one, new, &breakers).await?;
            }
            page = self.store.list_backlog(Some(last)).await?;
        }
        backlog_news.taken.extend(breakers);
        self.rows.add_backlog_news(backlog_news);
        self.next = Some(now + LOOK_EVERY.max(REST * now.elapsed()));
        Ok(())
    }

    async fn add(
        &self,
        backlog_news: &mut BacklogNews,
        one: BacklogSubscription,
        new: &[Partition],
        breakers: &HashMap<SubscriptionId, Option<Duration>>,
    ) -> Result<(), StoreError> {
        let BacklogSubscription {
            partition,
            subscription,
            class,
        } = one;
        if self.rows.shared.owned.partition_of(subscription) != Some(partition) {
            // The row was written before the number of partitions changed. Its owner moves it, for it knows its rows in
            // hand.
            if self.rows.may_refile(partition, subscription) {
                while self.store.repartition_backlog(one).await? > 0 {}
            }
            return Ok(());
        }
        if !self.rows.owns(subscription) {
            return Ok(());
        }
        if new.contains(&partition) && !breakers.contains_key(&subscription) {
            backlog_news.taken.push((subscription, None));
        }
        backlog_news.backlog.push((subscription, class));
        Ok(())
    }

    /// The circuit breakers in these partitions, with their waits; all while the number of partitions changes.
    async fn breakers(
        &self,
        new: &[Partition],
    ) -> Result<HashMap<SubscriptionId, Option<Duration>>, StoreError> {
        let is_new = |subscription| {
            let partition = self.rows.shared.owned.partition_of(subscription);
            partition.is_none_or(|partition| new.contains(&partition))
        };
        let breakers = self.store.breakers().await?;
        let breakers = breakers.iter().filter(|one| is_new(one.subscription));
        Ok(breakers.map(|one| (one.subscription, one.wait)).collect())
    }
}
