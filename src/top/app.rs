//! The state of the view, and the effects of keys on it. Pure: time is an argument, and requested
//! mode changes are returned as values.

use super::client::{ModeChange, RequestedMode, ServerReport, Trouble};
use super::history::Past;
use super::text::cut;
use super::view::{Id, ReceivedAdapter, ReceivedDecision, ReceivedSnapshot};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// Time for which the result of a key is shown.
const NOTICE_TIME: Duration = Duration::from_secs(6);
/// Maximum width of a name in an error message, so that the error itself fits.
const NOTICE_NAME_MAX: usize = 24;
/// Number of lines that a page key scrolls.
const PAGE: usize = 5;
/// Approximate number of lines of one entry of the lower pane in a narrow terminal.
const LINES_MAX: usize = 4;

/// The content of the lower pane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pane {
    #[default]
    Decisions,
    Models,
}

/// The result of a key.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    until: Instant,
}

/// An effect of a key outside of the view.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Quit,
    SetMode(ModeChange),
}

/// The whole state that is shown.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// Host and port of the server.
    pub(crate) place: String,
    /// The last received snapshot, however old.
    pub(crate) snapshot: Option<ReceivedSnapshot>,
    pub(crate) past: Past,
    /// The error of the last request for a newer snapshot.
    pub(crate) trouble: Option<Trouble>,
    pub(crate) notice: Option<Notice>,
    pub(crate) pane: Pane,
    /// Number of lines of the lower pane that are scrolled off.
    pub(crate) scroll: usize,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    selected: Option<Id>,
}

impl App {
    pub(crate) fn new(place: String) -> App {
        App { place, ..App::default() }
    }

    /// Returns the used adapters in the server's order, then the unused ones.
    pub(crate) fn adapters(&self) -> Vec<&ReceivedAdapter> {
        let all = || self.snapshot.iter().flat_map(|snapshot| &snapshot.adapters);
        let unused = all().filter(|adapter| !adapter.is_used());
        all().filter(|adapter| adapter.is_used()).chain(unused).collect()
    }

    /// Returns the selected adapter and its index; the first one before a selection.
    pub(crate) fn selected(&self) -> Option<(usize, &ReceivedAdapter)> {
        let adapters = self.adapters();
        let place = adapters.iter().position(|adapter| Some(&adapter.id) == self.selected.as_ref());
        let place = place.unwrap_or_default();
        adapters.get(place).map(|adapter| (place, *adapter))
    }

    /// Returns the newest decision that turned an adapter on or off, otherwise the newest one about
    /// it.
    pub(crate) fn newest_decision(&self, adapter: &Id) -> Option<&ReceivedDecision> {
        let turns = ["start", "drain", "resume", "quarantine"];
        let about = || {
            let decisions =
                self.snapshot.iter().flat_map(|snapshot| snapshot.decisions.iter().rev());
            decisions.filter(|decision| decision.adapter == *adapter)
        };
        let last = || self.snapshot.as_ref()?.adapter(adapter)?.last_decision.as_ref();
        let turned = about().find(|decision| turns.contains(&&*decision.change));
        // The log is limited, but the adapter's own last decision is always kept.
        turned.or_else(last).or_else(|| about().next())
    }

    pub(crate) fn report(&mut self, report: ServerReport, now: Instant) {
        match report {
            ServerReport::Snapshot(snapshot) => self.take(*snapshot),
            ServerReport::Past(samples) => self.past.replace(samples),
            ServerReport::Trouble(trouble) => self.trouble = Some(trouble),
            ServerReport::ModeSet(change) => {
                self.notify(
                    format!("{}: mode is {} now", self.name(&change), change.mode.as_str()),
                    now,
                );
            }
            ServerReport::ModeRejected(change, trouble) => {
                let (name, mode) =
                    (cut(&self.name(&change), NOTICE_NAME_MAX), change.mode.as_str());
                self.notify(format!("{name}: failed to set mode {mode}: {trouble}"), now);
                self.notice.iter_mut().for_each(|notice| notice.is_error = true);
            }
        }
    }

    /// While the view is paused, the history is still updated, so that it has no gap afterwards.
    fn take(&mut self, snapshot: ReceivedSnapshot) {
        self.trouble = None;
        self.past.push(snapshot.sample_or_present());
        if !self.paused || self.snapshot.is_none() {
            self.snapshot = Some(snapshot);
        }
    }

    fn name(&self, change: &ModeChange) -> String {
        let adapter = self.snapshot.as_ref().and_then(|snapshot| snapshot.adapter(&change.adapter));
        adapter.map_or_else(|| change.adapter.to_string(), ReceivedAdapter::title)
    }

    fn notify(&mut self, text: String, now: Instant) {
        self.notice = Some(Notice { text, is_error: false, until: now + NOTICE_TIME });
    }

    /// Removes expired notices.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.notice.as_ref().is_some_and(|notice| now >= notice.until) {
            self.notice = None;
        }
    }

    pub(crate) fn key(&mut self, key: KeyEvent, now: Instant) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Effect::Quit);
        }
        if self.help {
            self.help = false;
            return None;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Effect::Quit),
            KeyCode::Char('a') => return self.request_mode(RequestedMode::Auto, now),
            KeyCode::Char('o') => return self.request_mode(RequestedMode::On, now),
            KeyCode::Char('f') => return self.request_mode(RequestedMode::Off, now),
            KeyCode::Char('p') | KeyCode::Char(' ') => self.paused = !self.paused,
            KeyCode::Char('?') | KeyCode::Char('h') => self.help = true,
            code => self.walk(code),
        }
        None
    }

    fn walk(&mut self, code: KeyCode) {
        match code {
            KeyCode::Up | KeyCode::Char('k') => self.select(|place| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|place| place.saturating_add(1)),
            KeyCode::Home | KeyCode::Char('g') => self.select(|_| 0),
            KeyCode::End | KeyCode::Char('G') => self.select(|_| usize::MAX),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(PAGE),
            KeyCode::PageDown => self.scroll = (self.scroll + PAGE).min(self.entries() * LINES_MAX),
            KeyCode::Tab | KeyCode::BackTab => {
                self.scroll = 0;
                self.pane = match self.pane {
                    Pane::Decisions => Pane::Models,
                    Pane::Models => Pane::Decisions,
                };
            }
            _ => {}
        }
    }

    /// Returns the number of decisions or models in the lower pane.
    fn entries(&self) -> usize {
        self.snapshot.as_ref().map_or(0, |snapshot| match self.pane {
            Pane::Decisions => snapshot.decisions.len(),
            Pane::Models => snapshot.models.len(),
        })
    }

    fn select(&mut self, place: impl Fn(usize) -> usize) {
        let here = self.selected().map_or(0, |(place, _)| place);
        let adapters = self.adapters();
        let there = place(here).min(adapters.len().saturating_sub(1));
        self.selected = adapters.get(there).map(|adapter| adapter.id.clone());
    }

    fn request_mode(&mut self, mode: RequestedMode, now: Instant) -> Option<Effect> {
        let (_, adapter) = self.selected()?;
        let text = format!("{}: setting mode {} …", adapter.title(), mode.as_str());
        let change = ModeChange { adapter: adapter.id.clone(), mode };
        self.notify(text, now);
        Some(Effect::SetMode(change))
    }

    /// Reports a mode change that could not be sent.
    pub(crate) fn not_sent(&mut self, change: ModeChange, now: Instant) {
        let trouble = Trouble::Other("the server answers slowly; try again".to_owned());
        self.report(ServerReport::ModeRejected(change, trouble), now);
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn app() -> App {
        let mut app = App::new("here:1".to_owned());
        app.report(ServerReport::Snapshot(Box::new(samples::loaded())), types::clock::now());
        app
    }

    fn press(app: &mut App, code: KeyCode) -> Option<Effect> {
        app.key(KeyEvent::new(code, KeyModifiers::NONE), types::clock::now())
    }

    fn selected(app: &App) -> &str {
        app.selected().unwrap().1.id.raw()
    }

    #[test]
    fn every_quit_key_quits() {
        let mut app = app();
        assert_eq!(press(&mut app, KeyCode::Char('q')), Some(Effect::Quit));
        assert_eq!(press(&mut app, KeyCode::Esc), Some(Effect::Quit));
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        app.help = true;
        assert_eq!(app.key(key, types::clock::now()), Some(Effect::Quit));
    }

    #[test]
    fn any_key_closes_the_help_and_does_nothing_else() {
        let mut app = app();
        press(&mut app, KeyCode::Char('?'));
        assert!(app.help);
        assert_eq!(press(&mut app, KeyCode::Esc), None);
        assert!(!app.help);
    }

    #[test]
    fn the_selection_stays_with_its_adapter_and_within_the_list() {
        let mut app = app();
        assert_eq!(selected(&app), "pci-0000:01:00.0");
        press(&mut app, KeyCode::Up);
        press(&mut app, KeyCode::Char('j'));
        assert_eq!(selected(&app), "pci-0000:03:00.0");
        let mut turned = samples::loaded();
        turned.adapters.reverse();
        app.report(ServerReport::Snapshot(Box::new(turned)), types::clock::now());
        assert_eq!(selected(&app), "pci-0000:03:00.0");
        press(&mut app, KeyCode::End);
        press(&mut app, KeyCode::Down);
        assert!(!app.selected().unwrap().1.is_used());
        app.report(ServerReport::Snapshot(Box::default()), types::clock::now());
        assert!(app.selected().is_none());
        assert_eq!(press(&mut app, KeyCode::Char('f')), None);
        press(&mut app, KeyCode::Down);
    }

    #[test]
    fn mode_is_requested_for_the_selected_adapter_and_its_result_shown_for_a_while() {
        let mut app = app();
        press(&mut app, KeyCode::Down);
        let adapter = app.selected().unwrap().1.id.clone();
        let change = ModeChange { adapter, mode: RequestedMode::Off };
        assert_eq!(press(&mut app, KeyCode::Char('f')), Some(Effect::SetMode(change.clone())));
        assert_eq!(change.adapter.raw(), "pci-0000:03:00.0");
        let now = types::clock::now();
        app.report(ServerReport::ModeRejected(change, Trouble::Other("no".to_owned())), now);
        let notice = app.notice.clone().unwrap();
        assert_eq!(notice.text, "AMD Radeon RX 6700 XT: failed to set mode off: no");
        assert!(notice.is_error);
        app.tick(now + NOTICE_TIME);
        assert!(app.notice.is_none());
    }

    #[test]
    fn after_an_error_the_last_state_is_shown_until_the_next_answer() {
        let mut app = app();
        app.report(ServerReport::Trouble(Trouble::Other("x".to_owned())), types::clock::now());
        assert!(app.trouble.is_some() && app.snapshot.is_some());
        app.report(ServerReport::Snapshot(Box::new(samples::loaded())), types::clock::now());
        assert!(app.trouble.is_none());
    }

    #[test]
    fn while_paused_the_picture_does_not_change() {
        let mut app = app();
        press(&mut app, KeyCode::Char('p'));
        app.report(ServerReport::Snapshot(Box::default()), types::clock::now());
        assert_eq!(app.adapters().len(), samples::loaded().adapters.len());
        press(&mut app, KeyCode::Char('p'));
        app.report(ServerReport::Snapshot(Box::default()), types::clock::now());
        assert!(app.adapters().is_empty());
    }

    #[test]
    fn newest_decision_prefers_starts_and_stops() {
        let app = app();
        let id = &app.selected().unwrap().1.id;
        assert_eq!(&*app.newest_decision(id).unwrap().change, "start");
    }
}
