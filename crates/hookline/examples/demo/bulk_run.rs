//! Publishes all other events in batches and shows the progress of their deliveries: a bar for each subscription on a
//! terminal, otherwise a line every second.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use hookline_core::event::Event;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::behaviour::Behaviour;
use crate::colour::dim;
use crate::ledger::{Ledger, Tally};
use crate::subscriptions::Subscription;
use crate::system::{ORGANIZATIONS, System};

/// Small batches with pauses show progress.
const BATCH: usize = 24;
const PAUSE: Duration = Duration::from_millis(150);

/// The time limit of all deliveries.
const TIMEOUT: Duration = Duration::from_secs(60);

const POLL_EVERY: Duration = Duration::from_millis(50);
const PRINT_EVERY: Duration = Duration::from_secs(1);

/// Splits events into batches, each of one organization.
pub(crate) fn batches<'a>(events: &[&'a Event]) -> Vec<(&'static str, Vec<&'a Event>)> {
    let mut batches = Vec::new();
    for chunk in events.chunks(BATCH) {
        for organization in ORGANIZATIONS {
            let of_it = |event: &&&Event| event.organization.as_str() == organization;
            let batch: Vec<&Event> = chunk.iter().filter(of_it).copied().collect();
            if !batch.is_empty() {
                batches.push((organization, batch));
            }
        }
    }
    batches
}

/// Returns when every delivery is accepted or gone, or after [`TIMEOUT`].
pub(crate) async fn publish_and_watch(
    system: &System,
    ledger: &Ledger,
    subscriptions: &[Subscription],
    events: &[&Event],
) -> anyhow::Result<()> {
    let publishing = async {
        for (organization, batch) in batches(events) {
            system.api(organization)?.publish(&batch).await?;
            tokio::time::sleep(PAUSE).await;
        }
        anyhow::Ok(())
    };
    let watching = async {
        watch(ledger, subscriptions).await;
        anyhow::Ok(())
    };
    tokio::try_join!(publishing, watching)?;
    Ok(())
}

async fn watch(ledger: &Ledger, subscriptions: &[Subscription]) {
    let began = Instant::now();
    let mut screen = Screen::new(subscriptions, &ledger.tallies());
    loop {
        let tallies = ledger.tallies();
        let ended = is_settled(subscriptions, &tallies) || began.elapsed() > TIMEOUT;
        screen.show(&tallies, began.elapsed(), ended);
        if ended {
            return;
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn is_settled(subscriptions: &[Subscription], tallies: &[Tally]) -> bool {
    let mut each = subscriptions.iter().zip(tallies);
    each.all(|(subscription, tally)| settled(subscription, tally) == tally.owed)
}

/// After one 410 the subscription receives no more requests.
fn settled(subscription: &Subscription, tally: &Tally) -> usize {
    match subscription.behaviour {
        Behaviour::Leaving if tally.refused > 0 => tally.owed,
        _ => tally.delivered,
    }
}

enum Screen<'a> {
    Bars(Vec<(&'a Subscription, ProgressBar)>),
    Lines {
        subscriptions: &'a [Subscription],
        printed: Option<Duration>,
    },
}

impl<'a> Screen<'a> {
    fn new(subscriptions: &'a [Subscription], tallies: &[Tally]) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines {
                subscriptions,
                printed: None,
            };
        }
        let all = MultiProgress::new();
        let bar = |(subscription, tally): (&'a Subscription, &Tally)| {
            let bar = all.add(ProgressBar::new(tally.owed as u64));
            let colour = match subscription.behaviour {
                Behaviour::Healthy => "green",
                Behaviour::Flaky => "yellow",
                Behaviour::Leaving => "red",
            };
            let template =
                format!("   {{prefix:18}} {{bar:24.{colour}/dim}} {{pos:>3}}/{{len:<3}} {{msg}}");
            if let Ok(style) = ProgressStyle::with_template(&template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.set_prefix(format!(
                "{:<10} {}",
                subscription.organization,
                subscription.behaviour.name()
            ));
            (subscription, bar)
        };
        Self::Bars(subscriptions.iter().zip(tallies).map(bar).collect())
    }

    fn show(&mut self, tallies: &[Tally], since: Duration, is_last: bool) {
        match self {
            Self::Bars(bars) => {
                for ((subscription, bar), tally) in bars.iter().zip(tallies) {
                    bar.set_position(settled(subscription, tally) as u64);
                    bar.set_message(dim(&state(subscription, tally)));
                    if is_last {
                        bar.abandon();
                    }
                }
                if is_last {
                    // The last bar leaves the cursor on its line.
                    eprintln!();
                }
            }
            Self::Lines {
                subscriptions,
                printed,
            } => {
                if !is_last && printed.is_some_and(|last| since < last + PRINT_EVERY) {
                    return;
                }
                *printed = Some(since);
                println!("{}", line(subscriptions, tallies, since));
            }
        }
    }
}

fn state(subscription: &Subscription, tally: &Tally) -> String {
    match (subscription.behaviour, tally.refused) {
        (_, 0) => String::new(),
        (Behaviour::Leaving, _) => "410: disabled".to_owned(),
        (_, waiting) => format!("{waiting} to be retried"),
    }
}

fn line(subscriptions: &[Subscription], tallies: &[Tally], since: Duration) -> String {
    let (mut owed, mut delivered, mut again, mut gone) = (0, 0, 0, 0);
    for (subscription, tally) in subscriptions.iter().zip(tallies) {
        owed += tally.owed;
        delivered += tally.delivered;
        match subscription.behaviour {
            Behaviour::Leaving => gone += settled(subscription, tally),
            _ => again += tally.refused,
        }
    }
    format!(
        "   {:>4.1} s  {:>3}/{owed} settled: {delivered} delivered, {again} to be retried, {gone} gone",
        since.as_secs_f64(),
        delivered + gone,
    )
}
