//! The picture of a simulated trace: demand above, adapters below.

use super::fleet::Machine;
use super::meter::Doing;
use super::trace::Trace;
use super::world::Run;
use anyhow::{Context, anyhow};
use plotters::prelude::*;

const SIZE: (u32, u32) = (1200, 640);
/// Columns of the demand curve.
const BINS: usize = 600;
const DEMAND: RGBColor = RGBColor(40, 90, 160);
const STARTING: RGBColor = RGBColor(235, 170, 60);
const IDLE: RGBColor = RGBColor(170, 205, 225);
const BUSY: RGBColor = RGBColor(35, 120, 75);

/// Draws a run with recorded changes, as SVG.
///
/// # Errors
/// If the drawing library fails.
pub fn plot(trace: &Trace, run: &Run, machines: &[Machine], title: &str) -> anyhow::Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = draw(&root, trace, run, (machines, title));
        drawn.map_err(|error| anyhow!("{error}")).context("failed to draw the picture")?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

fn draw(root: &Area<'_>, trace: &Trace, run: &Run, (machines, title): (&[Machine], &str)) -> Drawn {
    root.fill(&WHITE)?;
    let lanes = 60 + 40 * u32::try_from(machines.len()).unwrap_or(1);
    let (above, below) = root.split_vertically(SIZE.1.saturating_sub(lanes.min(SIZE.1 / 2)));
    demand(&above, trace, run, title)?;
    adapters(&below, run, machines)?;
    root.present()?;
    Ok(())
}

/// Draws rows per second, by bins.
fn demand(area: &Area<'_>, trace: &Trace, run: &Run, title: &str) -> Drawn {
    let span = run.span.max(1e-3);
    let width = span / BINS as f64;
    let mut counts = vec![0.0; BINS];
    for request in &trace.requests {
        let bin = ((request.at / width) as usize).min(BINS - 1);
        if let Some(count) = counts.get_mut(bin) {
            *count += f64::from(request.rows) / width;
        }
    }
    let top = counts.iter().copied().fold(1.0, f64::max) * 1.05;
    let mut chart = ChartBuilder::on(area)
        .caption(format!("rows per second, {title}"), ("sans-serif", 20))
        .margin_right(20)
        .x_label_area_size(0)
        .y_label_area_size(140)
        .build_cartesian_2d(0.0..span, 0.0..top)?;
    chart.configure_mesh().disable_x_mesh().draw()?;
    let points = counts.iter().enumerate().map(|(bin, count)| (bin as f64 * width, *count));
    chart.draw_series(AreaSeries::new(points, 0.0, DEMAND.mix(0.3)).border_style(DEMAND))?;
    Ok(())
}

/// Draws one row per adapter, coloured by its activity.
fn adapters(area: &Area<'_>, run: &Run, machines: &[Machine]) -> Drawn {
    let (span, count) = (run.span.max(1e-3), machines.len().max(1));
    let names: Vec<&str> = machines.iter().map(|machine| machine.name.as_str()).collect();
    let mut chart = ChartBuilder::on(area)
        .margin_right(20)
        .x_label_area_size(40)
        .y_label_area_size(140)
        .build_cartesian_2d(0.0..span, 0.0..count as f64)?;
    chart.configure_mesh().disable_mesh().y_labels(0).x_desc("seconds").draw()?;
    for (at, meter) in run.meters.iter().enumerate() {
        let low = (count - 1 - at) as f64;
        let changes = meter.changes.as_deref().unwrap_or_default();
        let ends = changes.iter().skip(1).map(|(end, _)| *end).chain([span]);
        let boxes = changes.iter().zip(ends).filter_map(|((from, doing), to)| {
            let colour = match doing {
                Doing::Off => return None,
                Doing::Starting => STARTING,
                Doing::Idle => IDLE,
                Doing::Busy => BUSY,
            };
            Some(Rectangle::new([(*from, low + 0.15), (to, low + 0.85)], colour.filled()))
        });
        chart.draw_series(boxes)?;
        let (x, y) = chart.backend_coord(&(0.0, low + 0.6));
        let style = ("sans-serif", 14).into_font().color(&BLACK);
        let (left, up) = area.get_base_pixel();
        let name: String = names.get(at).copied().unwrap_or_default().chars().take(18).collect();
        area.draw_text(&name, &style, ((x - left - 134).max(0), (y - up - 4).max(0)))?;
    }
    Ok(())
}
