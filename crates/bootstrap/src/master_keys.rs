//! Unlocking the store with the master keys of the settings.

use hookline_core::master_key::MasterKeys;
use hookline_runtime::service::Context;
use hookline_runtime::settings::SettingsError;
use hookline_store::{Store, StoreError, UnlockError};

/// The store with the keys to what is sealed in it.
///
/// # Errors
/// When the keys are not the store's, which is a mistake in the settings, or when it fails.
pub async fn unlock(store: Store, keys: &MasterKeys) -> anyhow::Result<Store> {
    store.unlock(keys).await.map_err(refused)
}

/// The same for a service: it waits for a database that is away at the moment.
///
/// # Errors
/// As [`unlock`], and when the database stays away.
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

/// The same for whoever seals everything anew, also what an earlier version left open.
///
/// # Errors
/// As [`unlock`].
pub async fn unlock_to_rekey(store: Store, keys: &MasterKeys) -> anyhow::Result<Store> {
    store.unlock_to_rekey(keys).await.map_err(refused)
}

fn refused(why: UnlockError) -> anyhow::Error {
    match why {
        UnlockError::Store(why) => why.into(),
        why => SettingsError::NotTheKeys(why.into()).into(),
    }
}
