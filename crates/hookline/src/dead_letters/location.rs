//! The three places that hold dead letters: deliveries in a store, rejected events in a folder or in RabbitMQ.

use hookline_bootstrap::distributed;
use hookline_store::{EmbeddedDeadLetters, Store};

use crate::dead_letters::deliveries::Deliveries;
use crate::dead_letters::folder::FolderLetters;
use crate::dead_letters::letter::{LetterDetails, Listed};
use crate::dead_letters::outcome::Outcome;
use crate::dead_letters::rabbit::RabbitLetters;
use crate::dead_letters::selection::{Action, Kind, Selection};
use crate::target_store::{Purpose, TargetStore};

pub(super) enum Location {
    Deliveries(Deliveries),
    Folder(FolderLetters),
    Rabbit(RabbitLetters),
}

impl Location {
    pub(super) async fn of(
        kind: Kind,
        target: &TargetStore,
        purpose: Purpose,
    ) -> anyhow::Result<Self> {
        Ok(match (kind, target) {
            (Kind::Delivery, TargetStore::Folder(folder)) => Self::Deliveries(Deliveries {
                store: Store::in_existing_folder(folder)?,
            }),
            (Kind::Delivery, TargetStore::Servers(settings)) => {
                let store = distributed::store(settings)?;
                store.check().await?;
                Self::Deliveries(Deliveries { store })
            }
            (Kind::Event, TargetStore::Folder(folder)) => Self::Folder(FolderLetters {
                letters: EmbeddedDeadLetters::beside_embedded(folder)?,
            }),
            (Kind::Event, TargetStore::Servers(settings)) => {
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
