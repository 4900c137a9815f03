//! Encrypts all secrets and header values again, a few subscriptions at a time, and then the stored responses of requests with
//! an `Idempotency-Key`. It may be stopped and started at any time: finished rows stay finished, and both keys decrypt until
//! the end.

use std::process::ExitCode;

use anyhow::ensure;
use hookline_store::{ResealResult, Store};
use indicatif::ProgressBar;

/// Rows in one transaction.
const BATCH: u32 = 200;

/// Passes over all subscriptions, because services may encrypt under another key meanwhile.
const PASSES: usize = 10;

pub(super) async fn run(store: &Store) -> anyhow::Result<ExitCode> {
    let progress = ProgressBar::new_spinner();
    let mut done = 0;
    for _ in 0..PASSES {
        let unopened = pass(store, |step| {
            done += step.subscriptions;
            progress.set_message(format!("{done} subscriptions encrypted again"));
            progress.tick();
        })
        .await?;
        let left = store.forget_other_keys().await?;
        if left == 0 {
            reseal_answers(store).await?;
            progress.finish_and_clear();
            println!("{done} subscriptions encrypted again; 0 left under other keys");
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(
            unopened.is_empty(),
            "{done} subscriptions encrypted again; {left} left under other keys, among them {}",
            unopened.join(", ")
        );
    }
    anyhow::bail!(
        "a service still encrypts under another key: put the new key first in the secrets.keys of every \
         service, and run this again"
    )
}

/// Once is enough: a response that a service stores under another key meanwhile is gone after 24 hours, and a request that
/// repeats it gets 409.
async fn reseal_answers(store: &Store) -> anyhow::Result<()> {
    let mut after = Vec::new();
    while let Some(last) = store.reseal_answers(after, BATCH).await? {
        after = last;
    }
    Ok(())
}

/// Reads every subscription once. Returns those that could not be decrypted, and why.
async fn pass(store: &Store, mut each: impl FnMut(&ResealResult)) -> anyhow::Result<Vec<String>> {
    let mut unopened = Vec::new();
    let mut after = None;
    loop {
        let step = store.reseal(after, BATCH).await?;
        each(&step);
        unopened.extend(
            step.unopened
                .iter()
                .map(|(id, why)| format!("subscription {id}: {why}")),
        );
        match step.last {
            Some(last) => after = Some(last),
            None => return Ok(unopened),
        }
    }
}
