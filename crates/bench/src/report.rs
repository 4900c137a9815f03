//! The report of a benchmark: a table, JSON and plots.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::measurement::{Summary, name_of};

#[derive(Debug, Serialize)]
pub struct Findings {
    /// The machine and the versions of the measured software.
    pub versions: Vec<String>,
    pub figures: Vec<Summary>,
}

impl Findings {
    /// The figures as a Markdown table.
    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::ASCII_MARKDOWN);
        table.set_header([
            "",
            "home",
            "what",
            "median",
            "range",
            "of bare POSTs",
            "of bare messages",
            "goal",
        ]);
        for figure in &self.figures {
            let (least, most) = figure.range();
            let share =
                |share: Option<f64>| share.map(|share| format!("{share:.2}")).unwrap_or_default();
            let goal = figure
                .row
                .goal
                .map(|goal| match goal.is_reached(figure.median) {
                    true => format!("{} ok", shown_goal(goal)),
                    false => format!("{} MISSED", shown_goal(goal)),
                });
            table.add_row([
                figure.row.scenario.to_owned(),
                name_of(figure.row.mode).to_owned(),
                figure.row.what.clone(),
                format!("{} {}", number(figure.median), figure.row.unit)
                    .trim()
                    .to_owned(),
                format!("{} to {}", number(least), number(most)),
                share(figure.of_posts),
                share(figure.of_relays),
                goal.unwrap_or_default(),
            ]);
        }
        for column in 3..7 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.to_string()
    }

    /// Writes `bench.json` and the plots into a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(self)?)?;
        crate::plot::draw(&self.figures, folder)
    }
}

fn shown_goal(goal: crate::measurement::Goal) -> String {
    match goal {
        crate::measurement::Goal::AtLeast(least) => format!("≥ {}", number(least)),
        crate::measurement::Goal::AtMost(most) => format!("≤ {}", number(most)),
    }
}

/// A number with three significant digits, and commas between the thousands.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        big if big >= 100.0 => 0,
        middle if middle >= 10.0 => 1,
        one if one >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut shown = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 && !shown.ends_with('-') {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [12_345.6, 1_000.0, 99.95, 3.456_78, 0.0421, 999_999.0].map(number);
        assert_eq!(
            shown,
            ["12,346", "1,000", "100.0", "3.46", "0.042", "999,999"]
        );
    }
}
