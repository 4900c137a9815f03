//! A progress bar on a terminal, otherwise a line every second. It is on standard error, so that standard output has only
//! the result.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

const EVERY: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

/// With and without the size of the input.
const BAR: &str = "{spinner:.cyan} [{bar:32.cyan/dim}] {percent:>3} %  {msg}";
const SPINNER: &str = "{spinner:.cyan} {elapsed_precise}  {msg}";

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    printed: Instant,
}

impl Progress {
    /// `bytes` is the size of the input, where it is known.
    pub(super) fn begin(bytes: Option<u64>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let (bar, template) = match bytes {
                Some(bytes) => (ProgressBar::new(bytes), BAR),
                None => (ProgressBar::new_spinner(), SPINNER),
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━╸─"));
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        let began = Instant::now();
        Self {
            bar,
            began,
            printed: began,
        }
    }

    /// Shows the number of published events, and the bytes of the input that are finished.
    pub(super) fn show(&mut self, published: u64, bytes: u64) {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let text = format!(
            "{} events published, {} a second",
            HumanCount(published),
            HumanCount((published as f64 / seconds) as u64)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(bytes);
                bar.set_message(text);
            }
            None if self.printed.elapsed() >= EVERY => {
                self.printed = Instant::now();
                eprintln!("{text}");
            }
            None => {}
        }
    }

    /// Prints a line above the bar.
    pub(super) fn print(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
