//! The table of adapters: as many columns as fit, by descending importance.

use super::app::App;
use super::look::{Look, bar, glyph, trace};
use super::text::{age, figure, known, left, pair, percent, right, span, used};
use super::view::ReceivedAdapter;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

/// Columns of mark and state, which are shown at every width.
const MARK: usize = 2;
const STATE: usize = 13;
const NAME_MIN: usize = 14;
const NAME_MAX: usize = 34;
const BAR: usize = 5;
/// Minimum and maximum useful width of the timeline.
const TRACE_MIN: usize = 12;
const TRACE_MAX: usize = 60;
pub(crate) const TRACE_MS: f64 = 300_000.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TableCell {
    Kind,
    Mode,
    Rows,
    Share,
    Busy,
    Queue,
    Run,
    Memory,
    Watts,
    Celsius,
    Trace,
}

impl TableCell {
    /// Columns in the order of display.
    const ALL: [TableCell; 11] = [
        TableCell::Kind,
        TableCell::Mode,
        TableCell::Rows,
        TableCell::Share,
        TableCell::Busy,
        TableCell::Queue,
        TableCell::Run,
        TableCell::Memory,
        TableCell::Watts,
        TableCell::Celsius,
        TableCell::Trace,
    ];
    /// Columns in the order in which they are allotted space.
    const PRIORITY: [TableCell; 10] = [
        TableCell::Mode,
        TableCell::Rows,
        TableCell::Busy,
        TableCell::Run,
        TableCell::Watts,
        TableCell::Celsius,
        TableCell::Queue,
        TableCell::Share,
        TableCell::Memory,
        TableCell::Kind,
    ];

    fn heading(self) -> &'static str {
        match self {
            TableCell::Kind => "API, CLASS",
            TableCell::Mode => "MODE",
            TableCell::Rows => "ROWS/S",
            TableCell::Share => "SHARE",
            TableCell::Busy => "BUSY",
            TableCell::Queue => "QUEUE 50/99",
            TableCell::Run => "RUN 50/99",
            TableCell::Memory => "MEMORY",
            TableCell::Watts => "W",
            TableCell::Celsius => "°C",
            TableCell::Trace => "LAST 5 MIN",
        }
    }

    fn columns(self) -> usize {
        match self {
            TableCell::Kind => 18,
            TableCell::Mode => 4,
            TableCell::Rows => 6,
            TableCell::Share => 5,
            TableCell::Busy => BAR + 5,
            TableCell::Queue | TableCell::Run => 12,
            TableCell::Memory => 12,
            TableCell::Watts | TableCell::Celsius => 4,
            TableCell::Trace => 0,
        }
    }

    fn is_flush_left(self) -> bool {
        matches!(self, TableCell::Kind | TableCell::Mode | TableCell::Busy | TableCell::Trace)
    }

    /// Returns true if a note may take this column, for an adapter that does no work.
    fn is_work(self) -> bool {
        matches!(
            self,
            TableCell::Rows
                | TableCell::Share
                | TableCell::Busy
                | TableCell::Queue
                | TableCell::Run
        )
    }
}

/// The selected columns, and the widths of those that are variable.
#[derive(Debug)]
struct Columns {
    name: usize,
    trace: usize,
    shown: Vec<TableCell>,
}

impl Columns {
    fn fit(room: usize) -> Columns {
        let mut left = room.saturating_sub(MARK + STATE + 1 + NAME_MIN);
        let mut shown = Vec::new();
        for cell in TableCell::PRIORITY {
            // A less important column never takes the space of one that did not fit.
            if left < cell.columns() + 1 {
                break;
            }
            left -= cell.columns() + 1;
            shown.push(cell);
        }
        let mut name = NAME_MIN + left;
        let mut trace = 0;
        if shown.len() == TableCell::PRIORITY.len() && left > TRACE_MIN {
            let spare = name.saturating_sub(NAME_MIN + 6 + 1);
            trace = spare.clamp(TRACE_MIN, TRACE_MAX);
            name = name.saturating_sub(trace + 1).min(NAME_MAX);
            shown.push(TableCell::Trace);
        }
        shown.sort_by_key(|cell| TableCell::ALL.iter().position(|of| of == cell));
        Columns { name: name.min(room.saturating_sub(MARK + STATE + 1)), trace, shown }
    }

    fn width(&self, cell: TableCell) -> usize {
        if cell == TableCell::Trace { self.trace } else { cell.columns() }
    }

    /// Returns the space for a note: that of the columns of work, and of all after them if
    /// `to_the_end`.
    fn words(&self, to_the_end: bool) -> usize {
        let first = self.shown.iter().position(|cell| cell.is_work()).unwrap_or(self.shown.len());
        let behind = self.shown.iter().skip(first).filter(|cell| to_the_end || cell.is_work());
        behind.map(|cell| self.width(*cell) + 1).sum::<usize>().saturating_sub(1)
    }
}

/// Returns the heading and at most `rows` adapters, including the selected one.
pub(crate) fn table(
    app: &App,
    look: Look,
    room: usize,
    rows: usize,
    live: bool,
) -> Vec<Line<'static>> {
    let columns = Columns::fit(room);
    let adapters = app.adapters();
    let selected = app.selected().map(|(place, _)| place).filter(|_| live);
    let first = (selected.unwrap_or_default() + 1).saturating_sub(rows);
    let total: f64 =
        adapters.iter().filter_map(|of| of.recent_figure(|recent| recent.requests_per_s)).sum();
    let mut lines = vec![heading(&columns, look)];
    for (place, adapter) in adapters.iter().enumerate().skip(first).take(rows) {
        let row = TableRow { app, look, adapter, columns: &columns, total };
        lines.push(row.line(selected == Some(place)));
    }
    lines
}

fn heading(columns: &Columns, look: Look) -> Line<'static> {
    let mut text = " ".repeat(MARK) + &left("STATE", STATE) + " " + &left("ADAPTER", columns.name);
    for cell in &columns.shown {
        text.push(' ');
        let fit = if cell.is_flush_left() { left } else { right };
        text.push_str(&fit(cell.heading(), columns.width(*cell)));
    }
    Line::styled(text, look.faint())
}

struct TableRow<'a> {
    app: &'a App,
    look: Look,
    adapter: &'a ReceivedAdapter,
    columns: &'a Columns,
    /// Requests per second of all adapters.
    total: f64,
}

impl TableRow<'_> {
    fn line(&self, selected: bool) -> Line<'static> {
        let (adapter, columns) = (self.adapter, self.columns);
        let state = &*adapter.state;
        let word = format!("{} {}", glyph(state), if state.is_empty() { "unknown" } else { state });
        let mark = if selected { "▸ " } else { "  " };
        let mut spans = vec![
            Span::styled(mark, self.look.accent().add_modifier(Modifier::BOLD)),
            Span::styled(left(&word, STATE), self.look.state(state)),
            Span::raw(" "),
            Span::styled(left(&adapter.title(), columns.name), self.name_style(selected)),
        ];
        let words = note(adapter, self.app.snapshot.as_ref().map_or(0.0, |of| of.now_ms()));
        self.cells(words, &mut spans);
        Line::from(spans)
    }

    fn name_style(&self, selected: bool) -> Style {
        match (selected, self.adapter.is_used()) {
            (true, _) => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            (false, true) => Style::new(),
            (false, false) => self.look.faint(),
        }
    }

    fn cells(&self, words: Option<String>, spans: &mut Vec<Span<'static>>) {
        let to_the_end = !self.adapter.is_used();
        let style = self.look.state(&self.adapter.state);
        let mut written = false;
        for cell in &self.columns.shown {
            let covered = words.is_some() && (cell.is_work() || written && to_the_end);
            if covered && written {
                continue;
            }
            spans.push(Span::raw(" "));
            match words.as_ref().filter(|_| covered) {
                Some(words) => {
                    let room = self.columns.words(to_the_end);
                    spans.push(Span::styled(left(words, room), style));
                    written = true;
                }
                None => self.cell(*cell, spans),
            }
        }
    }

    fn cell(&self, cell: TableCell, spans: &mut Vec<Span<'static>>) {
        let adapter = self.adapter;
        match cell {
            TableCell::Busy => return self.busy(spans),
            TableCell::Trace => return self.trace(spans),
            _ => {}
        }
        let sensors = &adapter.sensors;
        let text = match cell {
            TableCell::Kind => kind(adapter),
            TableCell::Mode => adapter.mode.to_string(),
            TableCell::Rows => known(adapter.recent_figure(|recent| recent.rows_per_s), figure),
            TableCell::Share => known(self.share(), percent),
            TableCell::Queue => pair(
                adapter.latency(|recent| recent.queue_p50_ms),
                adapter.latency(|recent| recent.queue_p99_ms),
            ),
            TableCell::Run => pair(
                adapter.latency(|recent| recent.run_p50_ms),
                adapter.latency(|recent| recent.run_p99_ms),
            ),
            TableCell::Memory => memory(adapter),
            TableCell::Watts => known(sensors.power_watts.0, |watts| format!("{watts:.0}")),
            TableCell::Celsius => {
                known(sensors.temperature_celsius.0, |celsius| format!("{celsius:.0}"))
            }
            TableCell::Busy | TableCell::Trace => String::new(),
        };
        let fit = if cell.is_flush_left() { left } else { right };
        let style =
            if text == super::text::UNKNOWN { self.look.faint() } else { self.cell_style(cell) };
        spans.push(Span::styled(fit(&text, cell.columns()), style));
    }

    /// A mode set by the operator is highlighted.
    fn cell_style(&self, cell: TableCell) -> Style {
        let automatic = &*self.adapter.mode == "auto";
        match cell {
            TableCell::Mode if !automatic => self.look.strong(),
            TableCell::Kind | TableCell::Mode => self.look.faint(),
            _ => Style::new(),
        }
    }

    fn share(&self) -> Option<f64> {
        let own = self.adapter.recent_figure(|recent| recent.requests_per_s)?;
        (self.total > 0.0).then(|| own / self.total)
    }

    fn busy(&self, spans: &mut Vec<Span<'static>>) {
        let Some(share) = self.adapter.recent_figure(|recent| recent.busy) else {
            let unknown = left(super::text::UNKNOWN, BAR + 5);
            return spans.push(Span::styled(unknown, self.look.faint()));
        };
        let (full, rest) = bar(share, BAR);
        spans.push(Span::styled(full, self.look.good()));
        spans.push(Span::styled(rest, self.look.faint()));
        spans.push(Span::raw(right(&percent(share), 5)));
    }

    fn trace(&self, spans: &mut Vec<Span<'static>>) {
        let now = self.app.snapshot.as_ref().map_or(0.0, |of| of.now_ms());
        let states = self.app.past.states(&self.adapter.id, self.columns.trace, TRACE_MS, now);
        for state in states {
            let state = state.unwrap_or_default();
            spans.push(Span::styled(trace(state), self.look.state(state)));
        }
    }
}

/// Returns API and class, such as `vulkan discrete`; for the CPU both are the same.
pub(crate) fn kind(adapter: &ReceivedAdapter) -> String {
    if adapter.api == adapter.class {
        adapter.api.to_string()
    } else {
        format!("{} {}", &*adapter.api, &*adapter.class).trim().to_owned()
    }
}

/// Returns the memory use of the card, or that of its models if the card does not report it.
fn memory(adapter: &ReceivedAdapter) -> String {
    let sensors = &adapter.sensors;
    if sensors.memory_used_bytes.0.is_some() {
        return used(sensors.memory_used_bytes.0, sensors.memory_total_bytes.0);
    }
    used(adapter.memory_used_bytes.0, adapter.memory_budget_bytes.0)
}

/// Returns a note on an adapter that does no work.
fn note(adapter: &ReceivedAdapter, now_ms: f64) -> Option<String> {
    let since = adapter.since_ms.0.map(|since| age(now_ms - since));
    let lasting = |word: &str| match &since {
        Some(since) => format!("{word} for {since}"),
        None => word.to_owned(),
    };
    match &*adapter.state {
        "unused" if adapter.reason.is_empty() => Some("not used".to_owned()),
        "unused" => Some(adapter.reason.to_string()),
        "starting" | "loading" if adapter.phase.is_empty() => Some(lasting(&adapter.state)),
        "starting" | "loading" => Some(adapter.phase.to_string()),
        "quarantined" => Some(quarantine(adapter, now_ms)),
        "unreaped" => Some(with_fault("its process does not end", adapter)),
        "stopping" => Some(lasting("stopping")),
        "off" => Some(off(adapter, since)),
        _ => None,
    }
}

fn quarantine(adapter: &ReceivedAdapter, now_ms: f64) -> String {
    let when = match adapter.retry_at_ms.0 {
        Some(at) if at > now_ms => format!("again in {}", age(at - now_ms)),
        Some(_) => "retrying now".to_owned(),
        None => "no retry set".to_owned(),
    };
    with_fault(&when, adapter)
}

fn with_fault(words: &str, adapter: &ReceivedAdapter) -> String {
    if adapter.fault.is_empty() {
        words.to_owned()
    } else {
        format!("{words}: {}", &*adapter.fault)
    }
}

/// The state is shown already; the note adds the time that it has been off and the duration of a
/// start.
fn off(adapter: &ReceivedAdapter, since: Option<String>) -> String {
    let starts = adapter.starts.or_zero();
    let start = match adapter.cold_start_ms.0 {
        Some(start) => Some(format!("start {}", span(start))),
        None if starts == 0.0 => Some("never on".to_owned()),
        None => None,
    };
    let asleep = adapter.sensors.asleep.0.then(|| "asleep".to_owned());
    let parts = [since.map(|since| format!("for {since}")), asleep, start];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::text::width;
    use super::*;

    #[test]
    fn columns_fit_whatever_the_width() {
        for room in 0..300 {
            let columns = Columns::fit(room);
            let cells: usize = columns.shown.iter().map(|cell| columns.width(*cell) + 1).sum();
            assert!(
                MARK + STATE + 1 + columns.name + cells <= room.max(MARK + STATE + 1),
                "{room}"
            );
            let heading = heading(&columns, Look { colour: true });
            assert!(width(&heading.to_string()) <= room.max(MARK + STATE + 1), "{room}");
        }
    }

    #[test]
    fn wider_terminals_show_more() {
        let shown = |room| Columns::fit(room).shown;
        assert_eq!(shown(60), [TableCell::Mode, TableCell::Rows, TableCell::Busy]);
        assert!(shown(80).contains(&TableCell::Celsius) && !shown(80).contains(&TableCell::Memory));
        assert!(shown(120).contains(&TableCell::Memory));
        assert_eq!(shown(200), TableCell::ALL);
    }
}
