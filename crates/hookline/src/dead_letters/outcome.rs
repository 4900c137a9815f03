//! The result of a command: a line for each dead letter, and the numbers for the exit status.

use std::io::Write as _;

use crate::dead_letters::selection::{Action, DeadLetterKind};
use crate::dead_letters::terminal_escape::escaped;

#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Letters that were redriven or dropped.
    pub(super) done: u64,
    /// Letters that stay, each with a line on standard error.
    pub(super) kept: u64,
}

impl Outcome {
    pub(super) fn is_nothing(&self) -> bool {
        self.done + self.kept == 0
    }

    pub(super) fn done(&mut self, action: Action, id: &str, kind: DeadLetterKind) {
        self.done += 1;
        let (verb, note) = match (action, kind) {
            (Action::Drop, _) => ("dropped", ""),
            (Action::Redrive, DeadLetterKind::Delivery) => ("redriven", ""),
            (Action::Redrive, DeadLetterKind::Event) => (
                "redriven",
                "; if it is still not valid, it is rejected again",
            ),
        };
        print(&format!("{verb} {} {}{note}\n", kind.as_str(), escaped(id)));
    }

    pub(super) fn kept(&mut self, id: &str, why: &str) {
        self.kept += 1;
        eprintln!("kept {}: {}", escaped(id), escaped(why));
    }
}

/// A reader such as `head` may close standard output early.
pub(super) fn print(text: &str) {
    let _closed = std::io::stdout().write_all(text.as_bytes());
}
