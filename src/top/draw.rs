//! Layout of one frame. It draws into a buffer, independent of the terminal.

use super::app::{App, Pane};
use super::look::{Look, chart};
use super::panes::{decisions, detail, help, models, rule};
use super::table::{TRACE_MS, table};
use super::text::{age, count, cut, figure, percent, span, width, wrap};
use super::view::ReceivedSnapshot;
use ratatui::buffer::Buffer;
use ratatui::layout::{Rect, Size};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Paragraph, Widget};

/// Number of lines of each part.
#[derive(Debug, PartialEq, Eq)]
struct PartHeights {
    title: usize,
    chart: usize,
    table: usize,
    detail: usize,
    pane: usize,
    footer: usize,
}

impl PartHeights {
    /// Divides `height` lines: first to the adapters, then the pane, then the details.
    fn new(height: usize, adapters: usize) -> PartHeights {
        let mut room = height;
        let mut take = |wanted: usize| {
            let taken = wanted.min(room);
            room -= taken;
            taken
        };
        let title = take(1);
        let footer = if height >= 8 { take(1) } else { 0 };
        let chart = take(match height {
            0..=5 => 0,
            6..=29 => 1,
            30..=44 => 3,
            _ => 5,
        });
        let pane_min = if height >= 14 { take(5) } else { 0 };
        let detail_min = if height >= 20 { take(4) } else { 0 };
        let table = take(1 + adapters.max(1));
        let detail = detail_min + if height >= 20 { take(3.min(height / 12)) } else { 0 };
        let pane = pane_min + if pane_min > 0 { take(height) } else { 0 };
        PartHeights { title, chart, table, detail, pane, footer }
    }
}

/// Draws the whole frame.
pub(crate) fn draw(app: &App, look: Look, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.width);
    let plan = PartHeights::new(usize::from(area.height), app.adapters().len());
    let mut lines = vec![title(app, look, room)];
    lines.truncate(plan.title);
    let stale = lines.len();
    lines.extend(queue(app, look, room, plan.chart));
    lines.extend(match &app.snapshot {
        Some(_) => filled(table(app, look, room, plan.table.saturating_sub(1), true), plan.table),
        None => nothing(app, look, room),
    });
    if let Some((_, adapter)) = app.selected().filter(|_| plan.detail > 0) {
        let name = vec![Span::styled(cut(&adapter.title(), room / 2), look.strong())];
        let mut part = vec![rule(name, look, room)];
        part.extend(detail(app, adapter, look, room));
        lines.extend(filled(part, plan.detail));
    }
    if app.snapshot.is_some() {
        lines.extend(pane(app, look, room, plan.pane));
    }
    let bottom = usize::from(area.height).saturating_sub(plan.footer);
    let mut lines = filled(lines, bottom);
    lines.extend([footer(app, look, room)].into_iter().take(plan.footer));
    paint(&lines, area, buffer);
    if app.trouble.is_some() && app.snapshot.is_some() {
        let below = (bottom - stale.min(bottom)) as u16;
        let old = Rect { y: area.y + stale as u16, height: below, ..area };
        buffer.set_style(old, Style::new().add_modifier(Modifier::DIM));
    }
    if app.help {
        overlay(look, area, buffer);
    }
}

/// Returns the whole state as plain lines, as many as it needs.
pub(crate) fn plain(app: &App, room: u16) -> String {
    let look = Look { colour: false };
    let columns = usize::from(room);
    let mut lines = vec![title(app, look, columns)];
    lines.extend(queue(app, look, columns, 1));
    lines.push(Line::default());
    lines.extend(table(app, look, columns, app.adapters().len(), false));
    lines.push(Line::default());
    lines.push(rule(vec![Span::raw("models")], look, columns));
    lines.extend(models(app, look, columns));
    lines.push(Line::default());
    lines.push(rule(vec![Span::raw("decisions")], look, columns));
    lines.extend(decisions(app, look, columns, PLAIN_DECISIONS));
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let mut buffer = Buffer::empty(Rect::from(((0, 0).into(), Size::new(room, height))));
    paint(&lines, buffer.area, &mut buffer);
    text(&buffer)
}

/// Maximum number of decisions in a plain frame.
const PLAIN_DECISIONS: usize = 10;

/// Returns the text of a buffer without trailing blanks.
fn text(buffer: &Buffer) -> String {
    let columns = usize::from(buffer.area.width).max(1);
    let mut text = String::new();
    for row in buffer.content.chunks(columns) {
        let mut line = String::new();
        let mut covered = 0;
        for cell in row {
            // A wide character also occupies the cells after it.
            if covered == 0 {
                line.push_str(cell.symbol());
                covered = width(cell.symbol()).max(1);
            }
            covered -= 1;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn paint(lines: &[Line<'static>], area: Rect, buffer: &mut Buffer) {
    for (row, line) in area.intersection(buffer.area).rows().zip(lines) {
        buffer.set_line(row.x, row.y, line, row.width);
    }
}

/// Extends the lines to exactly `height`.
fn filled(mut lines: Vec<Line<'static>>, height: usize) -> Vec<Line<'static>> {
    lines.resize(height, Line::default());
    lines
}

/// Returns the line with the server's state and the state of the connection.
fn title(app: &App, look: Look, room: usize) -> Line<'static> {
    let mut line =
        Line::from(Span::styled(" concertina", look.accent().add_modifier(Modifier::BOLD)));
    if let Some(snapshot) = &app.snapshot {
        line.push_span(format!(" {}", &*snapshot.server.version));
    }
    if app.paused {
        line.push_span("  ");
        line.push_span(Span::styled(" paused ", Style::new().add_modifier(Modifier::REVERSED)));
    }
    match (&app.trouble, &app.snapshot) {
        (Some(trouble), _) => {
            let rest = room.saturating_sub(line.width() + 2);
            let text = cut(&format!("not connected, retrying: {trouble}"), rest);
            line.extend([Span::raw("  "), Span::styled(text, look.bad())]);
        }
        (None, None) => line.extend([Span::styled("  connecting …", look.faint())]),
        (None, Some(snapshot)) => push_fitting(&mut line, health(snapshot, look), room),
    }
    let gap = room.saturating_sub(line.width() + width(&app.place) + 1);
    if gap > 0 {
        line.push_span(" ".repeat(gap));
        line.push_span(Span::styled(app.place.clone(), look.faint()));
    }
    line
}

/// Adds as many parts to a line as fit as a whole, but always the first.
fn push_fitting(line: &mut Line<'static>, parts: Vec<Span<'static>>, room: usize) {
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 && line.width() + 2 + part.width() > room {
            break;
        }
        line.extend([Span::raw("  "), part]);
    }
}

fn health(snapshot: &ReceivedSnapshot, look: Look) -> Vec<Span<'static>> {
    let server = &snapshot.server;
    let used = snapshot.adapters.iter().filter(|adapter| adapter.is_used()).count();
    let on = snapshot.adapters.iter().filter(|adapter| adapter.is_on()).count();
    let state = match (server.shutting_down.0, server.ready.0) {
        (true, _) => Span::styled("▽ shutting down", look.state("stopping")),
        (false, true) => Span::styled("● ready", look.good()),
        (false, false) if server.reason.is_empty() => Span::styled("✖ not ready", look.bad()),
        (false, false) => Span::styled(format!("✖ not ready: {}", &*server.reason), look.bad()),
    };
    let adapters = if used == 1 { "adapter" } else { "adapters" };
    vec![
        Span::raw(format!("{on} of {used} {adapters} on")),
        state,
        Span::styled(format!("up {}", age(snapshot.now_ms())), look.faint()),
    ]
}

/// Returns the queue's state beside a chart of the last minutes of `height` lines.
fn queue(app: &App, look: Look, room: usize, height: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = &app.snapshot else { return filled(Vec::new(), height) };
    let words = queue_texts(snapshot);
    let beside = height > 1;
    let label =
        if beside { words.iter().map(|word| width(word)).max().unwrap_or_default() } else { 0 };
    let one: String = words.iter().take(2).cloned().collect::<Vec<_>>().join(" · ");
    let label = if beside { label } else { width(&one) }.min(room);
    let pieces = room.saturating_sub(label + 4);
    let values = app.past.outstanding(pieces, TRACE_MS, snapshot.now_ms());
    let most = values.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let scale = format!("most {} ", count(most));
    let charted = if pieces > 30 { pieces - width(&scale) } else { pieces };
    let values = values.get(pieces - charted..).unwrap_or_default();
    let rows = chart(values, height);
    let mut lines = Vec::new();
    for (at, bars) in rows.into_iter().enumerate() {
        let word = if beside { words.get(at).map_or("", String::as_str) } else { &one };
        let mut line = Line::from(format!(" {}  ", super::text::left(word, label)));
        line.push_span(Span::styled(bars, look.accent()));
        if at == 0 && charted < pieces {
            line.push_span(Span::styled(format!(" {scale}"), look.faint()));
        }
        lines.push(line);
    }
    lines
}

/// Returns the queue's state as texts, the most important first.
fn queue_texts(snapshot: &ReceivedSnapshot) -> Vec<String> {
    let queue = &snapshot.queue;
    let (queued, in_flight) = (queue.queued_requests.or_zero(), queue.in_flight_requests.or_zero());
    let rates =
        snapshot.adapters.iter().filter_map(|of| of.recent_figure(|recent| recent.requests_per_s));
    let rate: f64 = rates.sum();
    let is_reported = snapshot.adapters.iter().any(|adapter| adapter.recent.is_some());
    let mut words = vec![format!("{} waiting, {} in flight", count(queued), count(in_flight))];
    words.extend(is_reported.then(|| format!("{} requests/s", figure(rate))));
    words.extend(snapshot.load.as_ref().filter(|load| load.running.0).map(|load| {
        format!("load generator: {} × {}", count(load.concurrency.or_zero()), &*load.model)
    }));
    let drain = queue.drain_ms.0.filter(|drain| *drain > 0.0);
    words.extend(drain.map(|drain| format!("done in {}", span(drain))));
    let watts = snapshot.adapters.iter().filter_map(|adapter| adapter.sensors.power_watts.0);
    let watts = watts.reduce(|all, one| all + one);
    words.extend(watts.map(|watts| format!("{watts:.0} W measured")));
    let held = (queue.held_bytes.0, queue.held_bytes_max.0);
    if let (Some(held), Some(most)) = held
        && most > 0.0
    {
        words.push(format!("{} of host memory held", percent(held / most)));
    }
    words
}

/// Returns the lines that are shown before the first answer.
fn nothing(app: &App, look: Look, room: usize) -> Vec<Line<'static>> {
    let Some(trouble) = &app.trouble else {
        let text = cut(&format!(" connecting to {} …", app.place), room);
        return vec![Line::default(), Line::styled(text, look.faint())];
    };
    let mut lines = vec![Line::default()];
    let words = format!("{}: {trouble}", app.place);
    let wrapped = wrap(&words, room.saturating_sub(2)).into_iter();
    lines.extend(wrapped.map(|text| Line::from(format!(" {text}"))));
    lines.push(Line::styled(cut(" retrying", room), look.faint()));
    lines
}

fn pane(app: &App, look: Look, room: usize, height: usize) -> Vec<Line<'static>> {
    let most = height + app.scroll;
    let (mut body, tabs) = match app.pane {
        Pane::Decisions => (decisions(app, look, room, most), ["[decisions]", " models "]),
        Pane::Models => (models(app, look, room), [" decisions ", "[models]"]),
    };
    // Scrolling ends at the last line.
    body.drain(..app.scroll.min(body.len().saturating_sub(height.saturating_sub(1))));
    let style = |tab: &str| if tab.starts_with('[') { look.strong() } else { look.faint() };
    let mut lines = vec![rule(tabs.map(|tab| Span::styled(tab, style(tab))).into(), look, room)];
    lines.extend(body);
    filled(lines, height)
}

/// Returns the result of the last key, otherwise the list of keys.
fn footer(app: &App, look: Look, room: usize) -> Line<'static> {
    if let Some(notice) = &app.notice {
        let style = if notice.is_error { look.bad() } else { look.strong() };
        return Line::styled(cut(&format!(" {}", notice.text), room), style);
    }
    let other = if app.pane == Pane::Models { "decisions" } else { "models" };
    // By descending importance: the last ones are omitted if the space is insufficient.
    let keys = [
        ("q", "quit"),
        ("?", "help"),
        ("↑↓", "select"),
        ("a", "auto"),
        ("o", "on"),
        ("f", "off"),
        ("Tab", other),
        ("p", "pause"),
    ];
    let mut line = Line::default();
    for (key, word) in keys {
        if line.width() + width(key) + width(word) + 3 > room {
            break;
        }
        line.push_span(Span::styled(format!(" {key}"), look.strong()));
        line.push_span(Span::styled(format!(" {word} "), look.faint()));
    }
    line
}

fn overlay(look: Look, area: Rect, buffer: &mut Buffer) {
    let lines = help(look);
    let columns = lines.iter().map(Line::width).max().unwrap_or_default() + 4;
    let size = Size::new(columns as u16, lines.len() as u16 + 2);
    let place = Rect::from(((0, 0).into(), size)).intersection(Rect { x: 0, y: 0, ..area });
    let x = area.x + (area.width - place.width) / 2;
    let place = Rect { x, y: area.y + (area.height - place.height) / 2, ..place };
    Clear.render(place, buffer);
    let block = Block::bordered().border_type(BorderType::Rounded).title(" keys and states ");
    let block = block.border_style(look.faint()).padding(ratatui::widgets::Padding::horizontal(1));
    Paragraph::new(lines).block(block).render(place, buffer);
}

#[cfg(test)]
#[path = "draw_tests.rs"]
mod tests;
