//! The plot of a simulation over time: waits of healthy messages, and messages that were marked as backlog.

use std::ops::Range;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::measured::{SimulationResult, Waits};

const SIZE: (u32, u32) = (960, 680);
const FONT: &str = "sans-serif";
const RED: RGBColor = RGBColor(200, 40, 40);
const BLUE: RGBColor = RGBColor(130, 170, 240);
const GREY: RGBColor = RGBColor(120, 120, 120);

pub(super) struct Runs<'a> {
    pub(super) with_bad: &'a SimulationResult,
    pub(super) without_bad: &'a SimulationResult,
    pub(super) one_queue: &'a SimulationResult,
    /// The drawn seconds of each run.
    pub(super) seconds: usize,
    /// The seconds in which the bad endpoints fail.
    pub(super) outage: Range<usize>,
    pub(super) title: &'a str,
}

type Points = Vec<(f64, f64)>;
type Half<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws into an SVG file.
pub(super) fn draw(runs: &Runs<'_>, to: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(to, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(runs.title, (FONT, 20))?;
    let (upper, lower) = root.split_vertically(SIZE.1 / 2 - 10);
    draw_waits(runs, &upper)?;
    draw_marked(runs, &lower)?;
    root.present()?;
    Ok(())
}

/// On a logarithmic scale: waits differ by orders of magnitude. A value below one is drawn as one.
fn draw_waits(runs: &Runs<'_>, half: &Half<'_>) -> anyhow::Result<()> {
    let (low, high) = (0.5, 100_000.0);
    let mut chart = ChartBuilder::on(half)
        .margin(12)
        .margin_right(32)
        .caption(
            "p99 wait of healthy messages for a slot, by the second in which they were published",
            (FONT, 15),
        )
        .x_label_area_size(34)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..runs.seconds as f64, (low..high).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds")
        .y_desc("ms; 1 is 1 or less")
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .label_style((FONT, 13))
        .draw()?;
    chart.draw_series([shade(&runs.outage, low, high)])?;
    for (name, run, style) in [
        (
            "lanes, without the bad ones",
            runs.without_bad,
            BLUE.stroke_width(6),
        ),
        (
            "lanes, with the bad ones",
            runs.with_bad,
            RED.stroke_width(2),
        ),
        (
            "no lanes, with the bad ones",
            runs.one_queue,
            GREY.stroke_width(2),
        ),
    ] {
        chart
            .draw_series(LineSeries::new(p99(run, runs.seconds), style))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 13))
        .draw()?;
    Ok(())
}

fn draw_marked(runs: &Runs<'_>, half: &Half<'_>) -> anyhow::Result<()> {
    let with_bad = marked(runs.with_bad, runs.seconds);
    let most = with_bad.iter().map(|(_, count)| *count).fold(1.0, f64::max);
    let (low, high) = (-0.03 * most, 1.1 * most);
    let mut chart = ChartBuilder::on(half)
        .margin(12)
        .margin_right(32)
        .caption(
            "messages marked as backlog a second, by all dispatchers together",
            (FONT, 15),
        )
        .x_label_area_size(34)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..runs.seconds as f64, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc("seconds; the bad ones are bad where it is shaded")
        .y_desc("messages a second")
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .label_style((FONT, 13))
        .draw()?;
    chart.draw_series([shade(&runs.outage, low, high)])?;
    let without_bad = marked(runs.without_bad, runs.seconds);
    chart.draw_series(LineSeries::new(without_bad, BLUE.stroke_width(6)))?;
    chart.draw_series(LineSeries::new(with_bad, RED.stroke_width(2)))?;
    Ok(())
}

/// Has no point for a second without published messages.
fn p99(run: &SimulationResult, seconds: usize) -> Points {
    let all = run.seconds.iter().take(seconds).enumerate();
    let published = all.filter(|(_, second)| !second.healthy_waits.is_empty());
    published
        .map(|(at, second)| {
            let waits = Waits::of(second.healthy_waits.iter());
            (at as f64, f64::from(waits.p99.max(1)))
        })
        .collect()
}

fn marked(run: &SimulationResult, seconds: usize) -> Points {
    let all = run.seconds.iter().take(seconds).enumerate();
    all.map(|(at, second)| (at as f64, f64::from(second.marked)))
        .collect()
}

fn shade(outage: &Range<usize>, low: f64, high: f64) -> Rectangle<(f64, f64)> {
    let (from, to) = (outage.start as f64, outage.end as f64);
    Rectangle::new([(from, low), (to, high)], RED.mix(0.07).filled())
}

/// A label: a whole number with commas between the thousands.
fn whole(number: &f64) -> String {
    let digits = format!("{number:.0}");
    let mut label = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            label.push(',');
        }
        label.push(digit);
    }
    label
}
