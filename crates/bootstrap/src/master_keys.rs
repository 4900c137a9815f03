//! Unlocking the store with the master keys of the settings.

use hookline_core::master_key::MasterKeys;
use hookline_runtime::service::Context;
use hookline_runtime::settings::SettingsError;
use hookline_store::{Store, StoreError, UnlockError};

/// # Errors
/// When the keys are not the store's, which is a mistake in the settings.
pub async fn unlock(store: Store, keys: &MasterKeys) -> anyhow::Result<Store> {
    store.unlock(keys).await.map_err(refused)
}

/// [`unlock`] for a service, which waits for an unreachable database.
pub(crate) async fn unlock_once_reached(
    context: &Context,
    store: Store,
    keys: &MasterKeys,
) -> anyhow::Result<Store> {
    let unlocked = context.wait_for("PostgreSQL", async || {
        match store.clone().unlock(keys).await {
            Err(UnlockError::Store(passing @ StoreError::Unavailable(_))) => Err(passing),
            unlocked => Ok(unlocked),
        }
    });
    unlocked.await?.map_err(refused)
}

fn refused(why: UnlockError) -> anyhow::Error {
    match why {
        UnlockError::Store(why) => why.into(),
        why => SettingsError::NotTheKeys(why.into()).into(),
    }
}
