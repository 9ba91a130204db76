//! Glyphs and colours. A state is always shown by a glyph or a word too, never by colour alone.

use ratatui::style::{Color, Style};

/// True if colours are used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) colour: bool,
}

impl Look {
    /// Returns one of the terminal's own sixteen colours, so that its theme is respected.
    pub(crate) fn ink(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    pub(crate) fn good(self) -> Style {
        self.ink(Color::Green)
    }

    pub(crate) fn bad(self) -> Style {
        self.ink(Color::Red).bold()
    }

    pub(crate) fn accent(self) -> Style {
        self.ink(Color::Cyan)
    }

    /// The style of the background: rules, headings, unknown values.
    pub(crate) fn faint(self) -> Style {
        Style::new().dim()
    }

    pub(crate) fn strong(self) -> Style {
        Style::new().bold()
    }

    pub(crate) fn state(self, state: &str) -> Style {
        match state {
            "busy" | "ready" => self.good(),
            "idle" => self.accent(),
            "starting" | "loading" => self.ink(Color::Yellow),
            "draining" | "stopping" | "unloading" => self.ink(Color::Magenta),
            "quarantined" | "unreaped" | "unavailable" => self.bad(),
            "off" | "unused" => self.faint(),
            _ => Style::new(),
        }
    }

    pub(crate) fn change(self, change: &str) -> Style {
        match change {
            "start" | "resume" => self.good(),
            "drain" => self.ink(Color::Magenta),
            "quarantine" => self.bad(),
            "load" | "unload" => self.accent(),
            _ => Style::new(),
        }
    }
}

/// States of adapters with their glyphs, in the order of the lifecycle.
pub(crate) const STATES: &[(&str, &str, &str)] = &[
    ("off", "○", "no process; turned on when requests need it"),
    ("starting", "◔", "opens its device and checks it"),
    ("loading", "◑", "loads a model and warms it up"),
    ("idle", "◉", "on, waits for a batch"),
    ("busy", "●", "runs a batch"),
    ("draining", "▽", "finishes its batches, accepts none"),
    ("stopping", "◌", "its process ends"),
    ("quarantined", "✖", "had a fault; next try later"),
    ("unreaped", "!", "its process does not end"),
    ("unused", "·", "excluded or not usable"),
];

pub(crate) fn glyph(state: &str) -> &'static str {
    STATES.iter().find(|(name, ..)| *name == state).map_or("?", |(_, glyph, _)| glyph)
}

/// Returns the glyph of a decision's change, or of a model's state.
pub(crate) fn sign(word: &str) -> &'static str {
    match word {
        "start" | "resume" => "▲",
        "drain" => "▽",
        "quarantine" | "unavailable" => "✖",
        "load" => "+",
        "unload" => "−",
        "ready" => "●",
        "loading" => "◑",
        "unloading" => "▽",
        _ => "?",
    }
}

/// Returns one column of an adapter's timeline.
pub(crate) fn trace(state: &str) -> &'static str {
    match state {
        "" | "off" | "unused" => " ",
        "busy" => "█",
        "draining" => "▓",
        "starting" | "loading" => "▒",
        "idle" => "▁",
        "stopping" => "░",
        "quarantined" | "unreaped" => "×",
        _ => "?",
    }
}

/// Returns a thin bar in `columns`: the filled part, and the rest.
pub(crate) fn bar(share: f64, columns: usize) -> (String, String) {
    let halves = (share.clamp(0.0, 1.0) * columns as f64 * 2.0).round() as usize;
    let mut full = "━".repeat(halves / 2);
    if halves % 2 == 1 {
        full.push('╸');
    }
    (full, "─".repeat(columns.saturating_sub(halves.div_ceil(2))))
}

/// Returns a bar chart of `rows` lines, top line first: blank for unknown values, a thin line for
/// 0.
pub(crate) fn chart(values: &[Option<f64>], rows: usize) -> Vec<String> {
    let most = values.iter().flatten().fold(0.0_f64, |most, value| most.max(*value));
    let steps = rows * 8;
    let column = |value: &Option<f64>, row: usize| {
        let Some(value) = value else { return ' ' };
        // Any value above zero differs visibly from zero.
        let least = if *value > 0.0 { 2 } else { 1 };
        let height = (value / most.max(1.0) * steps as f64).round() as usize;
        let below = (rows - 1 - row) * 8;
        eighth(height.max(least).saturating_sub(below))
    };
    (0..rows).map(|row| values.iter().map(|value| column(value, row)).collect()).collect()
}

fn eighth(height: usize) -> char {
    match height {
        0 => ' ',
        1 => '▁',
        2 => '▂',
        3 => '▃',
        4 => '▄',
        5 => '▅',
        6 => '▆',
        7 => '▇',
        _ => '█',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_state_has_its_own_glyph() {
        let glyphs: BTreeSet<_> = STATES.iter().map(|(name, ..)| glyph(name)).collect();
        assert_eq!(glyphs.len(), STATES.len());
        assert_eq!(glyph("something new"), "?");
    }

    #[test]
    fn bars_have_the_width_of_their_share() {
        assert_eq!(bar(0.0, 4), (String::new(), "────".to_owned()));
        assert_eq!(bar(0.43, 4), ("━╸".to_owned(), "──".to_owned()));
        assert_eq!(bar(7.0, 4), ("━━━━".to_owned(), String::new()));
        assert_eq!(bar(f64::NAN, 2).1, "──");
    }

    #[test]
    fn chart_distinguishes_zero_from_unknown() {
        let values = [None, Some(0.0), Some(0.1), Some(8.0), Some(16.0)];
        assert_eq!(chart(&values, 1), [" ▁▂▄█"]);
        assert_eq!(chart(&values, 2), ["    █", " ▁▂██"]);
        assert_eq!(chart(&[Some(0.0)], 1), ["▁"]);
        assert!(chart(&[], 0).is_empty());
    }

    #[test]
    fn without_colour_styles_have_no_colour() {
        let look = Look { colour: false };
        for (state, ..) in STATES {
            assert_eq!(look.state(state).fg, None);
        }
    }
}
