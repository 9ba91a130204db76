//! Frames of all sizes, for servers that are idle, loaded, unreachable or hostile.

use super::*;
use crate::client::{ServerReport, Trouble};
use crate::samples;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

const LOOK: Look = Look { colour: true };

fn app(snapshot: ReceivedSnapshot) -> App {
    let mut app = App::new("127.0.0.1:8000".to_owned());
    app.report(ServerReport::Snapshot(Box::new(snapshot)), types::clock::now());
    app
}

fn press(app: &mut App, code: KeyCode) {
    app.key(KeyEvent::new(code, KeyModifiers::NONE), types::clock::now());
}

fn buffer(app: &App, look: Look, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(app, look, frame.area(), frame.buffer_mut())).unwrap();
    terminal.backend().buffer().clone()
}

fn frame(app: &App, width: u16, height: u16) -> String {
    text(&buffer(app, LOOK, width, height))
}

#[test]
fn every_size_is_drawn() {
    for snapshot in
        [samples::idle(), samples::loaded(), samples::hostile(), ReceivedSnapshot::default()]
    {
        let mut app = app(snapshot);
        for trouble in [None, Some(Trouble::Key { given: false })] {
            app.trouble = trouble;
            for pane in [Pane::Decisions, Pane::Models] {
                app.pane = pane;
                app.help = !app.help;
                for (width, height) in
                    [(0, 0), (1, 1), (2, 9), (20, 5), (60, 20), (80, 24), (300, 90)]
                {
                    frame(&app, width, height);
                }
                for size in 0..70 {
                    frame(&app, size, size / 2);
                    plain(&app, size);
                }
            }
        }
    }
}

#[test]
fn eighty_columns_contain_the_important_texts() {
    let text = frame(&app(samples::loaded()), 80, 24);
    for words in [
        "concertina 0.1.0  3 of 6 adapters on  ● ready  up 2 h 14 min",
        "37 waiting, 16 in flight",
        "▸ ● busy",
        "◑ loading",
        "warming up digits (2 of 5)",
        "again in 12 s: worker",
        "for 3 min, asleep, start 2.3 s",
        "why on  41 s ago, start: 14 rows of digits needed",
        "── [decisions] models ",
        "1 s ago  ▲ start",
        " 83%",
    ] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
}

#[test]
fn unknown_values_are_not_shown_as_zero() {
    let mut snapshot = samples::loaded();
    snapshot.adapters.iter_mut().for_each(|adapter| adapter.recent = None);
    let text = frame(&app(snapshot), 200, 30);
    let busy = text.lines().find(|line| line.contains("● busy")).unwrap();
    assert!(busy.matches('—').count() >= 5 && !busy.contains("0%"), "{text}");
    assert!(!text.contains("requests/s"), "{text}");
}

#[test]
fn output_of_a_hostile_server_contains_no_control_characters() {
    for pane in [Pane::Decisions, Pane::Models] {
        let mut app = app(samples::hostile());
        app.pane = pane;
        for text in [frame(&app, 200, 60), frame(&app, 80, 24), plain(&app, 120)] {
            let bad = |c: char| c != '\n' && c.is_control() || matches!(c, '\u{202e}' | '\u{200b}');
            assert!(!text.contains(bad), "{text:?}");
        }
        for line in plain(&app, 120).lines() {
            assert!(width(line) <= 120, "{line}");
        }
    }
}

#[test]
fn after_a_lost_connection_the_last_state_is_dimmed() {
    let mut app = app(samples::loaded());
    app.report(
        ServerReport::Trouble(Trouble::Other("Connection refused".to_owned())),
        types::clock::now(),
    );
    let buffer = buffer(&app, LOOK, 80, 24);
    let shown = text(&buffer);
    assert!(shown.contains("not connected, retrying: Connection refused"), "{shown}");
    assert!(shown.contains("NVIDIA GeForce"), "{shown}");
    let dim = |x, y| buffer.cell((x, y)).unwrap().modifier.contains(Modifier::DIM);
    assert!(dim(20, 3) && !dim(1, 0));
}

#[test]
fn missing_key_is_reported_in_full_at_every_width() {
    let mut app = App::new("127.0.0.1:8000".to_owned());
    app.report(ServerReport::Trouble(Trouble::Key { given: false }), types::clock::now());
    for width in [30, 60, 80] {
        let text = frame(&app, width, 24);
        assert!(text.contains("--api-key") && text.contains("CONCERTINA_API_KEY"), "{text}");
    }
}

#[test]
fn without_colour_no_cell_has_one() {
    let buffer = buffer(&app(samples::loaded()), Look { colour: false }, 120, 40);
    let plain = |cell: &ratatui::buffer::Cell| {
        cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset
    };
    assert!(buffer.content.iter().all(plain));
}

#[test]
fn selected_adapter_is_always_visible() {
    let mut app = app(samples::loaded());
    press(&mut app, KeyCode::End);
    let text = frame(&app, 60, 8);
    assert!(text.contains("▸ · unused"), "{text}");
}

#[test]
fn keys_open_panes_help_and_pause() {
    let mut app = app(samples::loaded());
    press(&mut app, KeyCode::Tab);
    press(&mut app, KeyCode::Char('p'));
    let text = frame(&app, 120, 40);
    for words in [" paused ", "[models]", "!6.1/131 ms", "unknown kind 'onnx'", "nowhere"] {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    press(&mut app, KeyCode::Char('?'));
    let text = frame(&app, 80, 24);
    assert!(text.contains("keys and states") && text.contains("✖ quarantined"), "{text}");
}

#[test]
fn scrolling_stops_at_the_end() {
    let mut app = app(samples::loaded());
    (0..50).for_each(|_| press(&mut app, KeyCode::PageDown));
    let text = frame(&app, 80, 24);
    assert!(text.contains("2 h ago  ▲ start") && !text.contains(" 1 s ago  ▲"), "{text}");
    press(&mut app, KeyCode::PageUp);
    (0..9).for_each(|_| press(&mut app, KeyCode::PageUp));
    assert!(frame(&app, 80, 24).contains(" 1 s ago  ▲ start"));
}

#[test]
fn plain_frame_contains_everything() {
    let text = plain(&app(samples::loaded()), 120);
    for words in ["llvmpipe", "── models", "── decisions", "requested by the operator", "MEMORY"]
    {
        assert!(text.contains(words), "{words} is missing in\n{text}");
    }
    assert!(!text.contains("quit") && !text.contains('▸') && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn all_lines_are_allotted() {
    for height in 0..100 {
        for adapters in [0, 1, 5, 64] {
            let PartHeights { title, chart, table, detail, pane, footer } =
                PartHeights::new(height, adapters);
            assert!(title + chart + table + detail + pane + footer <= height);
            assert!(height < 14 || table >= 2 && pane >= 4, "{height} {adapters}");
        }
    }
}
