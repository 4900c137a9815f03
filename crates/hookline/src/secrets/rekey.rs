//! Encrypts all secrets and header values again, a few subscriptions at a time. It may be stopped and started at any
//! time: finished subscriptions stay finished, and both keys decrypt until the end.

use std::process::ExitCode;

use anyhow::ensure;
use hookline_store::{ResealResult, Store};
use indicatif::ProgressBar;

/// Subscriptions in one transaction.
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
