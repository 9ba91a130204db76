//! The parts below the table: the selected adapter, decisions or models, and the help.

use super::app::App;
use super::look::{Look, STATES, sign};
use super::table::kind;
use super::text::{age, bytes, count, counted, cut, figure, known, left, pair, right, span, wrap};
use super::view::{Id, ReceivedAdapter, ReceivedDecision, ReceivedModel};
use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Maximum width of an adapter's name in a decision.
const NAME_MAX: usize = 26;
const AGE: usize = 11;
const CHANGE: usize = 13;
/// Minimum width at which text is wrapped with a hanging indent.
const WIDE: usize = 110;
/// Columns of a model's line without its name, and the maximum width of the name.
const MODEL_REST: usize = 50;
const MODEL_NAME: std::ops::RangeInclusive<usize> = 10..=28;
const MODEL_STATE: usize = 13;

/// Returns a rule with a title: `── decisions ─────`.
pub(crate) fn rule(words: Vec<Span<'static>>, look: Look, room: usize) -> Line<'static> {
    let mut line = Line::from(Span::styled("── ", look.faint()));
    line.spans.extend(words);
    line.push_span(" ");
    let rest = room.saturating_sub(line.width());
    line.push_span(Span::styled("─".repeat(rest), look.faint()));
    line
}

/// Returns the details of one adapter, the most important first: the reason why it is on or off.
pub(crate) fn detail(
    app: &App,
    adapter: &ReceivedAdapter,
    look: Look,
    room: usize,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let mut add = |label: &str, text: &str, style: Style| {
        lines.extend(hanging(Span::styled(left(label, 7), look.faint()), text, style, room));
    };
    let now_ms = app.snapshot.as_ref().map_or(0.0, |of| of.now_ms());
    add(label(adapter), &why(app, adapter, now_ms), Style::new());
    if !adapter.fault.is_empty() {
        add("fault", &adapter.fault, look.bad());
    }
    add("is", &identity(adapter), Style::new());
    add("did", &deeds(adapter), Style::new());
    add("holds", &holds(adapter), Style::new());
    lines
}

fn label(adapter: &ReceivedAdapter) -> &'static str {
    match (adapter.is_on(), &*adapter.state) {
        (true, _) => "why on",
        (_, "off") => "why off",
        _ => "why",
    }
}

fn why(app: &App, adapter: &ReceivedAdapter, now_ms: f64) -> String {
    if !adapter.reason.is_empty() {
        return adapter.reason.to_string();
    }
    if let Some(decision) = app.newest_decision(&adapter.id) {
        let at = past(decision, now_ms);
        return format!("{at}, {}: {}", &*decision.change, &*decision.text);
    }
    match (&*adapter.state, &*adapter.mode) {
        ("off", "off") => "turned off by the operator".to_owned(),
        ("off", _) if adapter.fallback.0 => "used only while no other adapter is usable".to_owned(),
        ("off", _) if adapter.starts.or_zero() == 0.0 => "not needed yet".to_owned(),
        _ => "the log does not contain the decision any more".to_owned(),
    }
}

fn identity(adapter: &ReceivedAdapter) -> String {
    let driver = format!("{} {}", &*adapter.driver, &*adapter.driver_info);
    let memory = adapter.memory_bytes.0.map(|memory| format!("{} of memory", bytes(memory)));
    let process = adapter.pid.0.map(|pid| format!("process {pid:.0}"));
    let parts = [Some(adapter.id.to_string()), Some(kind(adapter)), Some(driver), memory, process];
    joined(parts.into_iter().flatten().collect())
}

fn deeds(adapter: &ReceivedAdapter) -> String {
    let counts = format!(
        "{}, {} in {}",
        counted(adapter.requests.or_zero(), "request"),
        counted(adapter.rows.or_zero(), "row"),
        if adapter.batches.or_zero() == 1.0 {
            "1 batch".to_owned()
        } else {
            format!("{} batches", count(adapter.batches.or_zero()))
        }
    );
    let on = adapter.on_ms.0.filter(|on| *on > 0.0).map(|on| format!("on for {} in all", age(on)));
    let starts = counted(adapter.starts.or_zero(), "start");
    let cold = adapter.cold_start_ms.0.map(|cold| format!("the last took {}", span(cold)));
    let power = adapter.power.as_ref().map(|power| {
        let watts =
            |number: super::view::OptionalNumber| known(number.0, |watts| format!("{watts:.0} W"));
        let assumed = if power.assumed.0 { " (assumed)" } else { "" };
        format!("{} idle, {} active{assumed}", watts(power.idle_watts), watts(power.active_watts))
    });
    let used = adapter
        .sensors
        .utilisation
        .0
        .map(|used| format!("card {:.0}% used ({})", used * 100.0, &*adapter.sensors.source));
    joined([Some(counts), Some(starts), cold, on, power, used].into_iter().flatten().collect())
}

fn holds(adapter: &ReceivedAdapter) -> String {
    let loaded = adapter.replicas.iter().filter(|replica| replica.loaded.0);
    let names: Vec<_> = loaded.map(|replica| replica.model.to_string()).collect();
    match names.is_empty() {
        true => "no model".to_owned(),
        false => format!("{} in {}", names.join(", "), known(adapter.memory_used_bytes.0, bytes)),
    }
}

fn joined(parts: Vec<String>) -> String {
    let parts: Vec<_> =
        parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()).collect();
    parts.join(" · ")
}

/// Returns a label and text wrapped with a hanging indent.
fn hanging(label: Span<'static>, text: &str, style: Style, room: usize) -> Vec<Line<'static>> {
    let indent = label.width() + 2;
    let mut label = Some(label);
    let mut lines = Vec::new();
    for text in wrap(text, room.saturating_sub(indent)) {
        let before = label.take().unwrap_or_else(|| Span::raw(" ".repeat(indent - 2)));
        lines.push(Line::from(vec![
            Span::raw(" "),
            before,
            Span::raw(" "),
            Span::styled(text, style),
        ]));
    }
    lines
}

/// `12 s ago`.
fn past(decision: &ReceivedDecision, now_ms: f64) -> String {
    known(decision.at_ms.0, |at| {
        let age = age(now_ms - at);
        // Minutes are omitted beside hours.
        format!(
            "{} ago",
            age.split_once(" h ").map_or(age.clone(), |(hours, _)| format!("{hours} h"))
        )
    })
}

/// Returns decisions, newest first, at most `most`.
pub(crate) fn decisions(app: &App, look: Look, room: usize, most: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = &app.snapshot else { return Vec::new() };
    if snapshot.decisions.is_empty() {
        return vec![Line::styled(" no decision yet", look.faint())];
    }
    // A long name must leave space for the text.
    let name = room.saturating_sub(AGE + CHANGE + 3).min(NAME_MAX * 3) / 3;
    let mut lines = Vec::new();
    for decision in snapshot.decisions.iter().rev().take(most) {
        let change = format!("{} {}", sign(&decision.change), &*decision.change);
        let words = Span::styled(left(&change, CHANGE), look.change(&decision.change));
        let head = Line::from(vec![
            Span::styled(right(&past(decision, snapshot.now_ms()), AGE), look.faint()),
            Span::raw("  "),
            words,
            Span::styled(left(&named(app, &decision.adapter), name), look.strong()),
        ]);
        let text = match decision.model.is_empty() {
            true => decision.text.to_string(),
            false => format!("{}: {}", &*decision.model, &*decision.text),
        };
        lines.extend(beside(head, &text, room));
    }
    lines
}

/// Returns text after its head; the rest continues below, with a smaller indent if space is short.
fn beside(mut head: Line<'static>, text: &str, room: usize) -> Vec<Line<'static>> {
    let indent = head.width() + 2;
    let below = if room < WIDE { AGE + 2 } else { indent };
    let first = wrap(text, room.saturating_sub(indent)).into_iter().next().unwrap_or_default();
    let words = first.split_whitespace().count();
    let rest: Vec<_> = text.split_whitespace().skip(words).collect();
    head.push_span(format!("  {first}"));
    let mut lines = vec![head];
    if !rest.is_empty() {
        let rest = wrap(&rest.join(" "), room.saturating_sub(below));
        let line = |text: String| Line::from(format!("{}{text}", " ".repeat(below)));
        lines.extend(rest.into_iter().map(line));
    }
    lines
}

/// Returns an adapter's name; its id if it is not listed.
fn named(app: &App, id: &Id) -> String {
    let adapter = app.snapshot.as_ref().and_then(|snapshot| snapshot.adapter(id));
    adapter.map_or_else(|| id.to_string(), ReceivedAdapter::title)
}

/// Returns the models, each with its error.
pub(crate) fn models(app: &App, look: Look, room: usize) -> Vec<Line<'static>> {
    let Some(snapshot) = &app.snapshot else { return Vec::new() };
    if snapshot.models.is_empty() {
        return vec![Line::styled(" no model", look.faint())];
    }
    let heading = format!(
        " {} {} {} {} {} {}  LOADED ON",
        left("MODEL", model_name(room)),
        left("STATE", MODEL_STATE),
        right("REQ/S", 6),
        right("50/99", 12),
        right("TARGET", 7),
        right("ERRORS", 6)
    );
    let mut lines = vec![Line::styled(cut(&heading, room), look.faint())];
    for model in &snapshot.models {
        lines.push(model_line(app, model, look, room));
        let words = [("", &model.reason), ("last error: ", &model.last_error)];
        for (before, words) in words.into_iter().filter(|(_, words)| !words.is_empty()) {
            let text = format!("{before}{}", &**words);
            lines.extend(hanging(Span::raw("  "), &text, look.bad(), room));
        }
    }
    lines
}

fn model_name(room: usize) -> usize {
    room.saturating_sub(MODEL_REST).clamp(*MODEL_NAME.start(), *MODEL_NAME.end())
}

fn model_line(app: &App, model: &ReceivedModel, look: Look, room: usize) -> Line<'static> {
    let recent = model.recent.as_ref().and_then(Option::as_ref);
    let p99 = recent.and_then(|recent| recent.p99_ms.0);
    let late = matches!((p99, model.slo_ms.0), (Some(p99), Some(slo)) if p99 > slo);
    let latency = pair(recent.and_then(|recent| recent.p50_ms.0), p99);
    // The glyph has the same meaning as the colour.
    let latency = if late { format!("!{latency}") } else { latency };
    let state = format!("{} {}", sign(&model.state), &*model.state);
    let errors = model.errors.or_zero();
    let idle = model.recent.as_ref().map(|_| 0.0);
    let rate = recent.map_or(idle, |recent| recent.requests_per_s.0);
    let on: Vec<_> = model.adapters.iter().map(|id| named(app, id)).collect();
    let on = if on.is_empty() { "nowhere".to_owned() } else { on.join(", ") };
    let target = known(model.slo_ms.0, span);
    let name = format!("{} {}", &*model.name, &*model.version);
    let mut line = Line::from(vec![
        Span::raw(" "),
        Span::styled(left(&name, model_name(room)), look.strong()),
        Span::raw(" "),
        Span::styled(left(&state, MODEL_STATE), look.state(&model.state)),
        Span::raw(format!(" {} ", right(&known(rate, figure), 6))),
        Span::styled(right(&latency, 12), if late { look.bad() } else { Style::new() }),
        Span::raw(format!(" {} ", right(&target, 7))),
        Span::styled(
            right(&count(errors), 6),
            if errors > 0.0 { look.bad() } else { look.faint() },
        ),
    ]);
    let rest = room.saturating_sub(line.width() + 2);
    line.push_span(format!("  {}", cut(&on, rest)));
    line
}

/// Returns the keys and glyphs.
pub(crate) fn help(look: Look) -> Vec<Line<'static>> {
    let keys = [
        ("↑ ↓  j k", "select an adapter"),
        ("a  o  f", "its mode: automatic, on, off"),
        ("Tab", "decisions or models"),
        ("PgUp PgDn", "scroll them"),
        ("p", "pause the picture"),
        ("q  Esc", "quit"),
    ];
    let entry = |key: String, words: &str, style: Style| {
        Line::from(vec![Span::styled(left(&key, 14), style), Span::raw(words.to_owned())])
    };
    let mut lines: Vec<_> =
        keys.iter().map(|(key, words)| entry((*key).to_owned(), words, look.strong())).collect();
    lines.push(Line::default());
    let state = |(name, glyph, words): &(&str, &str, &str)| {
        entry(format!("{glyph} {name}"), words, look.state(name))
    };
    lines.extend(STATES.iter().map(state));
    lines
}
