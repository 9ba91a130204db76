//! `concertina top`: a running server in a terminal, as it is now and lately was.
//!
//! * `view` reads what the server says, and takes no harm from it; `text` measures words
//! * `client` asks the server, on a thread of its own, over `http`
//! * [`mod@advice`] is the best other settings of a server
//! * `app` is what is shown and what keys do, with `history` for the last minutes; pure
//! * `draw` lays a frame out, with `table`, `panes` and `look`

pub mod advice;
mod app;
mod client;
mod draw;
mod history;
mod http;
mod look;
mod panes;
mod signal;
mod table;
mod text;
mod view;

pub use advice::advice;
use anyhow::{Context, bail, ensure};
use app::{App, Effect};
use clap::builder::FalseyValueParser;
use client::{ModeChange, ServerClient, ServerReport};
use look::Look;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::terminal;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;
use types::clock;
use types::key_file;

/// How long the terminal is waited for before the server is looked at.
const TICK: Duration = Duration::from_millis(100);
/// Shorter intervals would keep the server busy with us.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Columns of a frame that goes somewhere that has none.
const PLAIN_COLUMNS: u16 = 120;

/// What to watch, and how.
#[derive(clap::Args, Debug)]
pub struct TopArgs {
    /// Where the server listens
    #[arg(
        long,
        env = "CONCERTINA_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8000"
    )]
    url: String,
    /// The server's API key; every user of this machine can read arguments, so prefer
    /// `--api-key-file`
    #[arg(long, env = "CONCERTINA_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// File that holds this key
    #[arg(long, env = "CONCERTINA_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// PEM file of the authority whose certificate the server has, where this system knows none
    #[arg(long, env = "CONCERTINA_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// How often to look
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one frame without colour and exit
    #[arg(long)]
    once: bool,
    /// Do without colour
    #[arg(long, env = "NO_COLOR", value_parser = FalseyValueParser::new())]
    no_color: bool,
}

impl TopArgs {
    /// Whether the view takes the terminal over, where a log would write into it.
    pub fn is_live(&self) -> bool {
        !self.once && io::stdout().is_terminal()
    }
}

/// An API key, or the file that holds it.
pub(crate) type Credentials<'a> = (Option<&'a str>, Option<&'a Path>);

/// A client of the server at this URL.
fn connect(
    url: &str,
    (key, key_file): Credentials<'_>,
    ca: Option<&Path>,
) -> anyhow::Result<ServerClient> {
    let file = key_file.map(key_file::read).transpose()?;
    ensure!(
        key.is_none() || file.is_none(),
        "--api-key and --api-key-file are both given; leave one of them out"
    );
    ServerClient::new(url, file.as_deref().or(key), ca)
}

/// The requests of the last day of a server as CSV, and its adapters as TOML.
///
/// # Errors
/// If the server cannot be asked, or does not answer.
pub fn recording(
    url: &str,
    key: Credentials<'_>,
    ca: Option<&Path>,
) -> anyhow::Result<(String, String)> {
    let client = connect(url, key, ca)?;
    let recording = client.recording();
    let recording = recording.with_context(|| format!("cannot ask {}", client.place()))?;
    Ok((recording.trace, recording.adapters))
}

/// Shows the server until told to quit; if the view is not live, gives one frame to be printed.
pub fn run(args: &TopArgs) -> anyhow::Result<Option<String>> {
    let key = (args.api_key.as_deref(), args.api_key_file.as_deref());
    let client = connect(&args.url, key, args.ca.as_deref())?;
    if args.is_live() {
        return live(client, args).map(|()| None);
    }
    if !args.once {
        tracing::warn!("the output is no terminal: here is one frame, as with --once");
    }
    once(&client).map(Some)
}

fn once(client: &ServerClient) -> anyhow::Result<String> {
    let mut app = App::new(client.place());
    let snapshot = client.snapshot().with_context(|| format!("cannot ask {}", client.place()))?;
    // The present alone will do where the past cannot be had.
    app.past.replace(client.history().unwrap_or_default());
    app.report(ServerReport::Snapshot(Box::new(snapshot)), clock::now());
    let size = io::stdout().is_terminal().then(terminal::size).and_then(Result::ok);
    Ok(draw::plain(&app, size.map_or(PLAIN_COLUMNS, |(columns, _)| columns)))
}

/// Takes the terminal over and gives it back on every way out; a panic gives it back as well.
fn live(client: ServerClient, args: &TopArgs) -> anyhow::Result<()> {
    let told = signal::told_to_end()?;
    let app = App::new(client.place());
    let (wishes, reports) = client::follow(client, args.interval.max(INTERVAL_MIN));
    let look = Look { colour: !args.no_color };
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            // It may have got half way.
            let _ = ratatui::try_restore();
            return Err(error).context("cannot take the terminal over");
        }
    };
    let shown = TerminalView { app, look, wishes, reports }.show(&mut terminal, || told.is_set());
    let restored = ratatui::try_restore().context("cannot give the terminal back");
    shown.and(restored)
}

struct TerminalView {
    app: App,
    look: Look,
    wishes: SyncSender<ModeChange>,
    reports: Receiver<ServerReport>,
}

impl TerminalView {
    fn show(
        &mut self,
        terminal: &mut DefaultTerminal,
        told_to_end: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut changed = true;
        while !told_to_end() {
            if changed {
                let draw = |frame: &mut ratatui::Frame<'_>| {
                    draw::draw(&self.app, self.look, frame.area(), frame.buffer_mut());
                };
                terminal.draw(draw).context("cannot draw")?;
            }
            changed = self.hear()?;
            if event::poll(TICK).context("cannot read the terminal")? {
                changed = true;
                let event = event::read().context("cannot read the terminal")?;
                if self.obey(&event) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes what came from the server, and whether anything is to be drawn.
    fn hear(&mut self) -> anyhow::Result<bool> {
        let had_notice = self.app.notice.is_some();
        self.app.tick(clock::now());
        let mut changed = had_notice != self.app.notice.is_some();
        loop {
            match self.reports.try_recv() {
                Ok(report) => self.app.report(report, clock::now()),
                Err(TryRecvError::Empty) => return Ok(changed),
                Err(TryRecvError::Disconnected) => bail!("the thread that asks the server ended"),
            }
            changed = true;
        }
    }

    /// Whether to quit.
    fn obey(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        match self.app.key(*key, clock::now()) {
            Some(Effect::Quit) => return true,
            Some(Effect::Ask(wish)) => {
                // Waiting for a slow server would hold up the keys.
                if let Err(unsent) = self.wishes.try_send(wish) {
                    self.app.not_sent(unsent_wish(unsent), clock::now());
                }
            }
            None => {}
        }
        false
    }
}

fn unsent_wish(unsent: std::sync::mpsc::TrySendError<ModeChange>) -> ModeChange {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    match unsent {
        Full(wish) | Disconnected(wish) => wish,
    }
}

/// Snapshots for tests, as a server gives them.
#[cfg(test)]
mod samples {
    use super::view::ReceivedSnapshot;

    pub(crate) fn idle() -> ReceivedSnapshot {
        serde_json::from_str(include_str!("samples/idle.json")).unwrap()
    }

    pub(crate) fn loaded() -> ReceivedSnapshot {
        serde_json::from_str(include_str!("samples/loaded.json")).unwrap()
    }

    pub(crate) fn hostile() -> ReceivedSnapshot {
        serde_json::from_str(include_str!("samples/hostile.json")).unwrap()
    }
}
