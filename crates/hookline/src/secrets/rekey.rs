//! Sealing everything anew, a few subscriptions at a time. It may be stopped and started again at
//! any moment: what is done is done, and both keys open until the end.

use std::process::ExitCode;

use anyhow::ensure;
use hookline_store::{ResealResult, Store};
use indicatif::ProgressBar;

/// How many subscriptions are sealed in one transaction.
const BATCH: u32 = 200;

/// How often everything is looked through for what others have sealed under another key meanwhile.
const PASSES: usize = 10;

pub(super) async fn run(store: &Store) -> anyhow::Result<ExitCode> {
    let progress = ProgressBar::new_spinner();
    let mut done = 0;
    for _ in 0..PASSES {
        let unopened = pass(store, |step| {
            done += step.subscriptions;
            progress.set_message(format!("{done} subscriptions encrypted anew"));
            progress.tick();
        })
        .await?;
        let left = store.forget_other_keys().await?;
        if left == 0 {
            progress.finish_and_clear();
            println!("{done} subscriptions encrypted anew; 0 left under other keys");
            return Ok(ExitCode::SUCCESS);
        }
        ensure!(
            unopened.is_empty(),
            "{done} subscriptions encrypted anew; {left} left under other keys, among them {}",
            unopened.join(", ")
        );
    }
    anyhow::bail!(
        "somebody keeps encrypting under another key: give every service the new one first in \
         secrets.keys, and run this again"
    )
}

/// Looks at every subscription once; answers with those that did not open, and why.
async fn pass(store: &Store, mut each: impl FnMut(&ResealResult)) -> anyhow::Result<Vec<String>> {
    let mut unopened = Vec::new();
    let mut after = None;
    loop {
        let step = store.reseal(after, BATCH).await?;
        each(&step);
        let told = step.unopened.iter();
        unopened.extend(told.map(|(id, why)| format!("subscription {id}: {why}")));
        match step.last {
            Some(last) => after = Some(last),
            None => return Ok(unopened),
        }
    }
}
