//! The account at the end, and whether it balances.

use comfy_table::{Cell, CellAlignment, Color, LineStyle, Table, TableStyle};

use crate::ink::{bold, green, red};
use crate::ledger::{Ledger, Tally};
use crate::receivers::Manner;
use crate::settle::Settled;
use crate::subscriptions::Subscription;

/// How many complaints are shown.
const SHOWN: usize = 10;

/// Everything that was to happen and everything that did.
pub(crate) struct Account {
    events: usize,
    lines: Vec<Line>,
    complaints: Vec<String>,
}

/// One subscription.
struct Line {
    subscription: Subscription,
    tally: Tally,
    settled: Settled,
}

/// The numbers of the account's last line.
struct Sums {
    /// Pairs of an event and a subscription that wants it.
    deliveries: usize,
    /// Of these, those that a receiver accepted, each counted once however often it came.
    delivered: usize,
    /// Of the delivered, those that took more than one attempt.
    retried: usize,
    /// Those that nobody wants any more: their receiver said 410, so their subscription is
    /// switched off.
    gone: usize,
    /// What is neither: deliveries - delivered - gone.
    lost: usize,
}

impl Account {
    pub(crate) fn draw_up(
        ledger: &Ledger,
        subscriptions: &[Subscription],
        settled: Vec<Settled>,
        events: usize,
    ) -> Self {
        let mut complaints = ledger.complaints();
        let mut lines = Vec::new();
        let tallies = ledger.tallies().into_iter().zip(settled);
        for (index, (subscription, (tally, settled))) in
            subscriptions.iter().zip(tallies).enumerate()
        {
            let line = Line {
                subscription: subscription.clone(),
                tally,
                settled,
            };
            if line.settled.delivered != ledger.accepted(index) {
                complaints.push(line.says("the log differs from what the receiver accepted"));
            }
            if line.has_left() != line.settled.is_gone() {
                complaints.push(line.says("it should be switched off, and only after a 410"));
            }
            lines.push(line);
        }
        Self {
            events,
            lines,
            complaints,
        }
    }

    /// Nothing lost, every signature and body as it should be, and the log says the same.
    pub(crate) fn is_balanced(&self) -> bool {
        self.complaints.is_empty() && self.sums().lost == 0
    }

    fn sums(&self) -> Sums {
        let sum = |of: fn(&Line) -> usize| self.lines.iter().map(of).sum();
        Sums {
            deliveries: sum(|line| line.tally.owed),
            delivered: sum(|line| line.tally.delivered),
            retried: sum(|line| line.tally.retried),
            gone: sum(Line::gone),
            lost: sum(Line::lost),
        }
    }

    pub(crate) fn show(&self) {
        println!("\n{}\n", self.table());
        if self.complaints.is_empty() {
            let sum = |of: fn(&Line) -> usize| -> usize { self.lines.iter().map(of).sum() };
            let requests = sum(|line| line.tally.requests);
            let twice = sum(|line| line.tally.duplicates);
            let logged = sum(|line| line.settled.attempts);
            let tick = green("✔");
            println!(
                "{tick} {requests} requests came: signatures verified, bodies as published, {twice} duplicates"
            );
            println!(
                "{tick} {logged} attempts are in the API's log, which agrees on every delivery"
            );
        }
        for complaint in self.complaints.iter().take(SHOWN) {
            println!("{} {complaint}", red("✘"));
        }
        if let Some(more @ 1..) = self.complaints.len().checked_sub(SHOWN) {
            println!("{} and {more} more", red("✘"));
        }
        let Sums {
            deliveries,
            delivered,
            retried,
            gone,
            lost,
        } = self.sums();
        let last = format!(
            "demo: events={} deliveries={deliveries} delivered={delivered} retried={retried} \
             gone={gone} lost={lost}",
            self.events
        );
        println!("\n{}", bold(&last));
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        let rule = LineStyle::none().fill('─').junction('─');
        table.load_style(TableStyle::new().header_separator(rule).bottom_border(rule));
        table.set_header([
            "subscription",
            "owed",
            "delivered",
            "retried",
            "gone",
            "lost",
            "requests",
            "state",
        ]);
        for line in &self.lines {
            table.add_row(line.cells());
        }
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((if index == 0 { 3 } else { 1 }, 0));
            if (1..7).contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

impl Line {
    fn has_left(&self) -> bool {
        self.subscription.manner == Manner::Leaving && self.tally.refused > 0
    }

    fn gone(&self) -> usize {
        match self.settled.is_gone() {
            true => self.tally.owed - self.tally.delivered,
            false => 0,
        }
    }

    fn lost(&self) -> usize {
        self.tally.owed - self.tally.delivered - self.gone()
    }

    fn name(&self) -> String {
        let subscription = &self.subscription;
        format!(
            "{} {}",
            subscription.organization,
            subscription.manner.name()
        )
    }

    fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.name())
    }

    fn cells(&self) -> Vec<Cell> {
        let number = |count: usize| match count {
            0 => Cell::new("·"),
            count => Cell::new(count),
        };
        let Tally {
            owed,
            delivered,
            retried,
            requests,
            ..
        } = self.tally;
        let state = match &self.settled.state.disabled_reason {
            Some(reason) => Cell::new(format!("off: {reason}")).fg(Color::Red),
            None => Cell::new("active").fg(Color::Green),
        };
        let lost = match self.lost() {
            0 => number(0),
            lost => Cell::new(lost).fg(Color::Red),
        };
        vec![
            Cell::new(self.name()),
            number(owed),
            number(delivered),
            number(retried),
            number(self.gone()),
            lost,
            number(requests),
            state,
        ]
    }
}
