//! The summary at the end, and whether the demo has passed.

use comfy_table::{Cell, CellAlignment, Color, LineStyle, Table, TableStyle};

use crate::behaviour::Behaviour;
use crate::colour::{bold, green, red};
use crate::ledger::{Ledger, Tally};
use crate::subscriptions::Subscription;
use crate::wait_idle::ApiView;

/// Problems that are shown.
const SHOWN: usize = 10;

pub(crate) struct Summary {
    events: usize,
    lines: Vec<Line>,
    problems: Vec<String>,
}

struct Line {
    subscription: Subscription,
    tally: Tally,
    view: ApiView,
}

/// The numbers of the last line.
struct Sums {
    /// Pairs of an event and a subscription that wants it.
    deliveries: usize,
    /// Deliveries that a receiver accepted. A duplicate does not count.
    delivered: usize,
    /// Delivered after more than one attempt.
    retried: usize,
    /// Not delivered because their receiver answered 410, which disables the subscription.
    gone: usize,
    /// deliveries - delivered - gone.
    lost: usize,
}

impl Summary {
    pub(crate) fn of(
        ledger: &Ledger,
        subscriptions: &[Subscription],
        views: Vec<ApiView>,
        events: usize,
    ) -> Self {
        let mut problems = ledger.problems();
        let mut lines = Vec::new();
        let tallies = ledger.tallies().into_iter().zip(views);
        for (index, (subscription, (tally, view))) in subscriptions.iter().zip(tallies).enumerate()
        {
            let line = Line {
                subscription: subscription.clone(),
                tally,
                view,
            };
            if line.view.delivered != ledger.accepted(index) {
                problems.push(line.problem("the log differs from the accepted requests"));
            }
            if line.has_left() != line.view.is_gone() {
                problems.push(line.problem("it must be disabled after a 410, and only then"));
            }
            lines.push(line);
        }
        Self {
            events,
            lines,
            problems,
        }
    }

    /// No delivery is lost, every signature and body is right, and the log of the API agrees.
    pub(crate) fn has_passed(&self) -> bool {
        self.problems.is_empty() && self.sums().lost == 0
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
        if self.problems.is_empty() {
            let sum = |of: fn(&Line) -> usize| -> usize { self.lines.iter().map(of).sum() };
            let requests = sum(|line| line.tally.requests);
            let twice = sum(|line| line.tally.duplicates);
            let logged = sum(|line| line.view.attempts);
            let tick = green("✔");
            println!(
                "{tick} {requests} requests came: signatures verified, bodies as published, {twice} duplicates"
            );
            println!(
                "{tick} {logged} attempts are in the API's log, which agrees on every delivery"
            );
        }
        for problem in self.problems.iter().take(SHOWN) {
            println!("{} {problem}", red("✘"));
        }
        if let Some(more @ 1..) = self.problems.len().checked_sub(SHOWN) {
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
        self.subscription.behaviour == Behaviour::Leaving && self.tally.refused > 0
    }

    fn gone(&self) -> usize {
        match self.view.is_gone() {
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
            subscription.behaviour.name()
        )
    }

    fn problem(&self, what: &str) -> String {
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
        let state = match &self.view.state.disabled_reason {
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
