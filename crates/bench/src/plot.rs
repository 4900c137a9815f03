//! Plots of the figures.

use std::path::Path;

use plotters::prelude::*;

use crate::measurement::{RATE, Summary, name_of};
use crate::number::number;

const SIZE: (u32, u32) = (900, 40);
const MARGIN: u32 = 60;
const COLORS: [RGBColor; 3] = [
    RGBColor(37, 99, 235),
    RGBColor(22, 163, 74),
    RGBColor(120, 113, 108),
];

/// Draws the rates, each with its range, and the CPU time of each process for a thousand deliveries.
pub(crate) fn draw(figures: &[Summary], folder: &Path) -> anyhow::Result<()> {
    let rates: Vec<&Summary> = figures
        .iter()
        .filter(|figure| figure.row.unit == RATE)
        .collect();
    bars(
        &rates,
        "a second, median and range",
        &folder.join("rates.svg"),
    )?;
    let cpu = |figure: &&Summary| figure.row.what.starts_with("CPU of");
    let costs: Vec<&Summary> = figures.iter().filter(cpu).collect();
    bars(
        &costs,
        "CPU seconds for 1,000 deliveries, median and range",
        &folder.join("cpu.svg"),
    )
}

fn bars(figures: &[&Summary], title: &str, file: &Path) -> anyhow::Result<()> {
    let most = figures
        .iter()
        .map(|figure| figure.range().1)
        .fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(());
    }
    let rows = u32::try_from(figures.len())?;
    let area = SVGBackend::new(file, (SIZE.0, MARGIN + SIZE.1 * rows)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .set_label_area_size(LabelAreaPosition::Bottom, 24)
        .build_cartesian_2d(0.0..most * 1.25, 0.0..f64::from(rows))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .draw()?;
    for (at, figure) in figures.iter().enumerate() {
        // The first figure is at the top.
        let top = f64::from(rows) - at as f64;
        let color = COLORS[figure.row.mode.map_or(2, |mode| mode as usize)];
        let (least, most) = figure.range();
        let label = format!(
            "{} {}: {} ({})",
            figure.row.scenario,
            name_of(figure.row.mode),
            figure.row.what,
            number(figure.median)
        );
        chart.draw_series([Rectangle::new(
            [(0.0, top - 0.55), (figure.median, top - 0.9)],
            color.mix(0.6).filled(),
        )])?;
        chart.draw_series([PathElement::new(
            [(least, top - 0.72), (most, top - 0.72)],
            BLACK.stroke_width(2),
        )])?;
        chart.draw_series([Text::new(label, (0.0, top - 0.05), ("sans-serif", 14))])?;
    }
    area.present()?;
    Ok(())
}
