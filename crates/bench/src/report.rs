//! The report of a benchmark: a table, JSON and plots.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::measurement::{Goal, Summary, name_of};
use crate::number::number;
use crate::plot;

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
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("bench.json"), serde_json::to_vec_pretty(self)?)?;
        plot::draw(&self.figures, folder)
    }
}

fn shown_goal(goal: Goal) -> String {
    match goal {
        Goal::AtLeast(least) => format!("≥ {}", number(least)),
        Goal::AtMost(most) => format!("≤ {}", number(most)),
    }
}
