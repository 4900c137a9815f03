//! The three places that hold dead letters: deliveries in a store, rejected events in a folder or in RabbitMQ.

use hookline_bootstrap::distributed;
use hookline_store::{EmbeddedDeadLetters, Store};

use crate::dead_letters::deliveries::DeadDeliveries;
use crate::dead_letters::folder::FolderLetters;
use crate::dead_letters::letter::{LetterDetails, Listed};
use crate::dead_letters::outcome::Outcome;
use crate::dead_letters::rabbit::RabbitLetters;
use crate::dead_letters::selection::{Action, DeadLetterKind, Selection};
use crate::target_store::{Purpose, TargetStore};

pub(super) enum Location {
    Deliveries(DeadDeliveries),
    Folder(FolderLetters),
    Rabbit(RabbitLetters),
}

impl Location {
    pub(super) async fn of(
        kind: DeadLetterKind,
        target: &TargetStore,
        purpose: Purpose,
    ) -> anyhow::Result<Self> {
        Ok(match (kind, target) {
            (DeadLetterKind::Delivery, TargetStore::Folder(folder)) => {
                Self::Deliveries(DeadDeliveries {
                    store: Store::in_existing_folder(folder)?,
                })
            }
            (DeadLetterKind::Delivery, TargetStore::Servers(settings)) => {
                let store = distributed::store(settings)?;
                store.check().await?;
                Self::Deliveries(DeadDeliveries { store })
            }
            (DeadLetterKind::Event, TargetStore::Folder(folder)) => Self::Folder(FolderLetters {
                letters: EmbeddedDeadLetters::beside_embedded(folder)?,
            }),
            (DeadLetterKind::Event, TargetStore::Servers(settings)) => {
                purpose.announce("broker", &settings.broker.required_url()?);
                Self::Rabbit(RabbitLetters::connect(settings).await?)
            }
        })
    }

    pub(super) async fn list(self, limit: u32) -> anyhow::Result<Listed> {
        match self {
            Self::Deliveries(deliveries) => deliveries.list(limit).await,
            Self::Folder(folder) => folder.list(limit).await,
            Self::Rabbit(rabbit) => rabbit.list(limit).await,
        }
    }

    pub(super) async fn find(
        self,
        selection: &Selection,
        search_limit: u32,
    ) -> anyhow::Result<Option<LetterDetails>> {
        match self {
            Self::Deliveries(deliveries) => deliveries.find(selection).await,
            Self::Folder(folder) => folder.find(selection).await,
            Self::Rabbit(rabbit) => rabbit.find(selection, search_limit).await,
        }
    }

    pub(super) async fn act(
        self,
        action: Action,
        selection: &Selection,
        search_limit: u32,
    ) -> anyhow::Result<Outcome> {
        match self {
            Self::Deliveries(deliveries) => deliveries.act(action, selection).await,
            Self::Folder(folder) => folder.act(action, selection).await,
            Self::Rabbit(rabbit) => rabbit.act(action, selection, search_limit).await,
        }
    }
}
