//! What the view shows and what keys do to it. Pure: time comes as an argument, wishes go out as
//! values.

use super::client::{ModeChange, RequestedMode, ServerReport, Trouble};
use super::history::Past;
use super::text::cut;
use super::view::{Id, ReceivedAdapter, ReceivedDecision, ReceivedSnapshot};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::time::{Duration, Instant};

/// How long the answer to a key stays to be read.
const NOTICE_TIME: Duration = Duration::from_secs(6);
/// Widest name before what is wrong, which matters more.
const NOTICE_NAME_MAX: usize = 24;
/// Lines that a page key moves.
const PAGE: usize = 5;
/// About as many as one entry of the lower pane takes in a narrow terminal.
const LINES_MAX: usize = 4;

/// What the lower pane shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pane {
    #[default]
    Decisions,
    Models,
}

/// An answer to a key.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    until: Instant,
}

/// What a key asks of the world outside.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    Quit,
    Ask(ModeChange),
}

/// Everything that is shown.
#[derive(Debug, Default)]
pub(crate) struct App {
    /// Host and port of the server.
    pub(crate) place: String,
    /// The last that is known, were it of long ago.
    pub(crate) snapshot: Option<ReceivedSnapshot>,
    pub(crate) past: Past,
    /// Why there is nothing newer.
    pub(crate) trouble: Option<Trouble>,
    pub(crate) notice: Option<Notice>,
    pub(crate) pane: Pane,
    /// Lines of the lower pane that are scrolled away.
    pub(crate) scroll: usize,
    pub(crate) paused: bool,
    pub(crate) help: bool,
    selected: Option<Id>,
}

impl App {
    pub(crate) fn new(place: String) -> App {
        App { place, ..App::default() }
    }

    /// Used adapters as the server orders them, then those that are not used.
    pub(crate) fn adapters(&self) -> Vec<&ReceivedAdapter> {
        let all = || self.snapshot.iter().flat_map(|snapshot| &snapshot.adapters);
        let unused = all().filter(|adapter| !adapter.is_used());
        all().filter(|adapter| adapter.is_used()).chain(unused).collect()
    }

    /// The selected adapter and its place; the first until one was selected.
    pub(crate) fn selected(&self) -> Option<(usize, &ReceivedAdapter)> {
        let adapters = self.adapters();
        let place = adapters.iter().position(|adapter| Some(&adapter.id) == self.selected.as_ref());
        let place = place.unwrap_or_default();
        adapters.get(place).map(|adapter| (place, *adapter))
    }

    /// The newest decision that turned an adapter on or off, or else about it at all.
    pub(crate) fn newest_decision(&self, adapter: &Id) -> Option<&ReceivedDecision> {
        let turns = ["start", "drain", "resume", "quarantine"];
        let about = || {
            let decisions =
                self.snapshot.iter().flat_map(|snapshot| snapshot.decisions.iter().rev());
            decisions.filter(|decision| decision.adapter == *adapter)
        };
        let last = || self.snapshot.as_ref()?.adapter(adapter)?.last_decision.as_ref();
        let turned = about().find(|decision| turns.contains(&&*decision.change));
        // The log has an end; what the adapter itself says of its last change has none.
        turned.or_else(last).or_else(|| about().next())
    }

    pub(crate) fn report(&mut self, report: ServerReport, now: Instant) {
        match report {
            ServerReport::Snapshot(snapshot) => self.take(*snapshot),
            ServerReport::Past(samples) => self.past.replace(samples),
            ServerReport::Trouble(trouble) => self.trouble = Some(trouble),
            ServerReport::Granted(wish) => {
                self.notify(
                    format!("{}: mode is {} now", self.name(&wish), wish.mode.as_str()),
                    now,
                );
            }
            ServerReport::Refused(wish, trouble) => {
                let (name, mode) = (cut(&self.name(&wish), NOTICE_NAME_MAX), wish.mode.as_str());
                self.notify(format!("{name}: not set to {mode}: {trouble}"), now);
                self.notice.iter_mut().for_each(|notice| notice.is_error = true);
            }
        }
    }

    /// While paused time goes on in the background, so that nothing is missing afterwards.
    fn take(&mut self, snapshot: ReceivedSnapshot) {
        self.trouble = None;
        self.past.push(snapshot.sample_or_present());
        if !self.paused || self.snapshot.is_none() {
            self.snapshot = Some(snapshot);
        }
    }

    fn name(&self, wish: &ModeChange) -> String {
        let adapter = self.snapshot.as_ref().and_then(|snapshot| snapshot.adapter(&wish.adapter));
        adapter.map_or_else(|| wish.adapter.to_string(), ReceivedAdapter::title)
    }

    fn notify(&mut self, text: String, now: Instant) {
        self.notice = Some(Notice { text, is_error: false, until: now + NOTICE_TIME });
    }

    /// Forgets notices whose time is over.
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
            KeyCode::Char('a') => return self.wish(RequestedMode::Auto, now),
            KeyCode::Char('o') => return self.wish(RequestedMode::On, now),
            KeyCode::Char('f') => return self.wish(RequestedMode::Off, now),
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

    /// Decisions or models that the lower pane has.
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

    fn wish(&mut self, mode: RequestedMode, now: Instant) -> Option<Effect> {
        let (_, adapter) = self.selected()?;
        let text = format!("{}: asking for mode {} …", adapter.title(), mode.as_str());
        let wish = ModeChange { adapter: adapter.id.clone(), mode };
        self.notify(text, now);
        Some(Effect::Ask(wish))
    }

    /// For a wish that could not even be sent.
    pub(crate) fn not_sent(&mut self, wish: ModeChange, now: Instant) {
        let trouble = Trouble::Other("the server is slow to answer; try again".to_owned());
        self.report(ServerReport::Refused(wish, trouble), now);
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
    fn every_way_out_quits() {
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
    fn a_mode_is_asked_of_the_selected_adapter_and_its_answer_shown_for_a_while() {
        let mut app = app();
        press(&mut app, KeyCode::Down);
        let adapter = app.selected().unwrap().1.id.clone();
        let wish = ModeChange { adapter, mode: RequestedMode::Off };
        assert_eq!(press(&mut app, KeyCode::Char('f')), Some(Effect::Ask(wish.clone())));
        assert_eq!(wish.adapter.raw(), "pci-0000:03:00.0");
        let now = types::clock::now();
        app.report(ServerReport::Refused(wish, Trouble::Other("no".to_owned())), now);
        let notice = app.notice.clone().unwrap();
        assert_eq!(notice.text, "AMD Radeon RX 6700 XT: not set to off: no");
        assert!(notice.is_error);
        app.tick(now + NOTICE_TIME);
        assert!(app.notice.is_none());
    }

    #[test]
    fn trouble_keeps_the_last_state_and_ends_with_the_next_answer() {
        let mut app = app();
        app.report(ServerReport::Trouble(Trouble::Other("x".to_owned())), types::clock::now());
        assert!(app.trouble.is_some() && app.snapshot.is_some());
        app.report(ServerReport::Snapshot(Box::new(samples::loaded())), types::clock::now());
        assert!(app.trouble.is_none());
    }

    #[test]
    fn a_pause_holds_the_picture() {
        let mut app = app();
        press(&mut app, KeyCode::Char('p'));
        app.report(ServerReport::Snapshot(Box::default()), types::clock::now());
        assert_eq!(app.adapters().len(), samples::loaded().adapters.len());
        press(&mut app, KeyCode::Char('p'));
        app.report(ServerReport::Snapshot(Box::default()), types::clock::now());
        assert!(app.adapters().is_empty());
    }

    #[test]
    fn why_prefers_what_turned_the_adapter_on_or_off() {
        let app = app();
        let id = &app.selected().unwrap().1.id;
        assert_eq!(&*app.newest_decision(id).unwrap().change, "start");
    }
}
