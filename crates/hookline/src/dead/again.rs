//! Starting a delivery again that was given up as poison, in the way that every retry goes.

use hookline_core::delivery::{Cause, DeliveryState, GaveUp, OwedAttempt};
use hookline_core::ids::DeliveryId;
use hookline_store::{Again, Store};

use crate::dead::letter::state_of;
use crate::place::now;

const FORGOTTEN: &str = "the retention has forgotten its delivery";

/// Answers with what is owed now, or with why the letter has to stay. What is pending stays as it
/// is: a command before this one may have died before it could hand it on.
pub(super) async fn start_again(
    store: &Store,
    id: DeliveryId,
) -> anyhow::Result<Result<OwedAttempt, String>> {
    let Some(found) = store.owed(vec![id]).await?.remove(&id) else {
        return Ok(Err(FORGOTTEN.to_owned()));
    };
    let is_pending = match found.state {
        DeliveryState::Pending { .. } => true,
        DeliveryState::Exhausted {
            why: GaveUp::Poison,
            ..
        } => false,
        ended => return Ok(Err(format!("its delivery is {}", state_of(ended)))),
    };
    store.end_trials(vec![id.into()]).await?;
    if is_pending {
        return Ok(Ok(OwedAttempt {
            delivery: id,
            generation: found.generation,
            attempt: found.attempts + 1,
            subscription: found.subscription,
        }));
    }
    // It is due by the clock of those that deliver.
    let due = store.clock().await.unwrap_or_else(now);
    let why = match store.start_again(None, id, Cause::Retry, due).await? {
        Again::Owed(owed) => return Ok(Ok(owed)),
        Again::Unknown => FORGOTTEN,
        Again::Pending => "somebody else has just started its delivery again",
        Again::Inactive => "its subscription is inactive",
        Again::Deleted => "its subscription was deleted",
    };
    Ok(Err(why.to_owned()))
}
