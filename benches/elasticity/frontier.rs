//! A picture of energy against latency, with one point per way.

use crate::evaluate::{KNOWN, Tried};
use crate::report::{Ratios, is_hidden};
use plotters::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

/// Ways that serve 99 % in time in fewer cells are not shown.
const SHARE: f64 = 0.95;

/// Draws the mean p50 over the target against the mean energy over the best known.
pub(crate) fn plot(results: &[Tried], file: &Path) {
    let hidden: Vec<&Tried> = results.iter().filter(is_hidden).collect();
    let names: BTreeSet<&str> =
        hidden.iter().flat_map(|r| r.lines.iter().map(|line| line.name.as_str())).collect();
    let points: Vec<_> = names.into_iter().filter_map(|name| point(&hidden, name)).collect();
    if let Err(error) = draw(&points, file) {
        eprintln!("{}: {error}", file.display());
    }
}

fn point<'a>(results: &[&Tried], name: &'a str) -> Option<(&'a str, f64, f64)> {
    let good = || results.iter().filter_map(|r| Some((r, r.good(name)?)));
    let p50 = Ratios::of(good().map(|(r, outcome)| outcome.p50_s / r.cell.slo));
    let energy = Ratios::of(good().filter_map(|(r, o)| Some(o.joules / r.good(KNOWN)?.joules)));
    let enough = energy.count as f64 >= SHARE * results.len() as f64;
    enough.then_some((name, p50.mean, energy.mean))
}

fn draw(points: &[(&str, f64, f64)], file: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (900, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = points.iter().map(|point| point.2).fold(1.5, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(&root)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d((0.005f64..1.0).log_scale(), (0.95f64..most).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("median answer time / target (geometric mean of the cells)")
        .y_desc("energy / best schedule known in hindsight")
        .x_label_formatter(&|x| format!("{x:.2}"))
        .y_label_formatter(&|y| format!("{y:.2}"))
        .draw()?;
    for (name, p50, energy) in points {
        let ours = ["latency", "balanced", "energy"].contains(name);
        let color = if ours { RED } else { BLUE };
        let size = if ours { 6 } else { 3 };
        chart.draw_series([Circle::new((*p50, *energy), size, color.filled())])?;
        let style = ("sans-serif", if ours { 15 } else { 11 }).into_font().color(&color);
        chart.draw_series([Text::new(
            (*name).to_owned(),
            (*p50 * 1.03, *energy * 1.005),
            style,
        )])?;
    }
    root.present()?;
    Ok(())
}
