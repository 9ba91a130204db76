//! `concertina top`: the present and recent state of a running server in a terminal.
//!
//! * `view` reads the server's snapshot and tolerates any content; `text` measures and fits text
//! * `client` sends requests to the server over `http`, on a separate thread
//! * [`mod@advice`] returns the best alternative settings of a server
//! * `app` is the state of the view and the effects of keys, with `history` for the last minutes;
//!   pure
//! * `draw` lays out a frame, with `table`, `panes` and `look`

pub mod advice;
mod app;
mod bench;
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
pub use bench::{BenchArgs, bench};
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

/// Time for which input of the terminal is awaited before the reports of the server are read.
const TICK: Duration = Duration::from_millis(100);
/// Shorter intervals would cause noticeable load on the server.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Columns of a frame for a destination without a width.
const PLAIN_COLUMNS: u16 = 120;

/// Arguments: a running server, and the key for it.
#[derive(clap::Args, Debug)]
pub struct ConnectionArgs {
    /// URL of the server
    #[arg(
        long,
        env = "CONCERTINA_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:8000"
    )]
    pub url: String,
    /// The server's API key; every user of this machine can read arguments, so prefer
    /// `--api-key-file`
    #[arg(long, env = "CONCERTINA_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub api_key: Option<String>,
    /// File that contains this key
    #[arg(long, env = "CONCERTINA_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// PEM file of the authority that issued the server's certificate, if this system does not
    /// trust it
    #[arg(long, env = "CONCERTINA_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl ConnectionArgs {
    /// Creates a client of the server.
    ///
    /// # Errors
    /// If the URL, the key or the file of the authority is invalid.
    fn connect(&self) -> anyhow::Result<ServerClient> {
        let key = (self.api_key.as_deref(), self.api_key_file.as_deref());
        connect(&self.url, key, self.ca.as_deref())
    }
}

/// Arguments: the server to watch, and the options of the view.
#[derive(clap::Args, Debug)]
pub struct TopArgs {
    #[command(flatten)]
    pub connection: ConnectionArgs,
    /// Interval between two updates
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Print one frame without colour and exit
    #[arg(long)]
    once: bool,
    /// Use no colour
    #[arg(long, env = "NO_COLOR", value_parser = FalseyValueParser::new())]
    no_color: bool,
}

impl TopArgs {
    /// Returns true if the view uses the whole terminal, so that log lines would disturb it.
    pub fn is_live(&self) -> bool {
        !self.once && io::stdout().is_terminal()
    }
}

/// An API key, or the file that contains it.
pub(crate) type Credentials<'a> = (Option<&'a str>, Option<&'a Path>);

/// Creates a client of the server at this URL.
fn connect(
    url: &str,
    (key, key_file): Credentials<'_>,
    ca: Option<&Path>,
) -> anyhow::Result<ServerClient> {
    let file = key_file.map(key_file::read).transpose()?;
    ensure!(
        key.is_none() || file.is_none(),
        "--api-key and --api-key-file are both set; remove one of them"
    );
    ServerClient::new(url, file.as_deref().or(key), ca)
}

/// Returns the requests of the last day of a server as CSV, and its adapters as TOML.
///
/// # Errors
/// If the server cannot be reached, or does not answer.
pub fn recording(
    url: &str,
    key: Credentials<'_>,
    ca: Option<&Path>,
) -> anyhow::Result<(String, String)> {
    let client = connect(url, key, ca)?;
    let recording = client.recording();
    let recording = recording
        .with_context(|| format!("failed to request the recording from {}", client.place()))?;
    Ok((recording.trace, recording.adapters))
}

/// Shows the server until the user quits; if the view is not live, returns one frame to be printed.
pub fn run(args: &TopArgs) -> anyhow::Result<Option<String>> {
    let client = args.connection.connect()?;
    if args.is_live() {
        return live(client, args).map(|()| None);
    }
    if !args.once {
        tracing::warn!("the output is not a terminal; printing one frame, as with --once");
    }
    once(&client).map(Some)
}

fn once(client: &ServerClient) -> anyhow::Result<String> {
    let mut app = App::new(client.place());
    let snapshot =
        client.snapshot().with_context(|| format!("failed to query {}", client.place()))?;
    // The snapshot is sufficient if the history is not available.
    app.past.replace(client.history().unwrap_or_default());
    app.report(ServerReport::Snapshot(Box::new(snapshot)), clock::now());
    let size = io::stdout().is_terminal().then(terminal::size).and_then(Result::ok);
    Ok(draw::plain(&app, size.map_or(PLAIN_COLUMNS, |(columns, _)| columns)))
}

/// Takes over the terminal and restores it at the end; a panic restores it as well.
fn live(client: ServerClient, args: &TopArgs) -> anyhow::Result<()> {
    let stop = signal::stop_on_signals()?;
    let app = App::new(client.place());
    let (mode_changes, reports) = client::follow(client, args.interval.max(INTERVAL_MIN));
    let look = Look { colour: !args.no_color };
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            // The setup may have been completed in part.
            let _ = ratatui::try_restore();
            return Err(error).context("failed to set up the terminal");
        }
    };
    let shown =
        TerminalView { app, look, mode_changes, reports }.show(&mut terminal, || stop.is_set());
    let restored = ratatui::try_restore().context("failed to restore the terminal");
    shown.and(restored)
}

struct TerminalView {
    app: App,
    look: Look,
    mode_changes: SyncSender<ModeChange>,
    reports: Receiver<ServerReport>,
}

impl TerminalView {
    fn show(
        &mut self,
        terminal: &mut DefaultTerminal,
        is_stopping: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        let mut changed = true;
        while !is_stopping() {
            if changed {
                let draw = |frame: &mut ratatui::Frame<'_>| {
                    draw::draw(&self.app, self.look, frame.area(), frame.buffer_mut());
                };
                terminal.draw(draw).context("failed to draw")?;
            }
            changed = self.receive_reports()?;
            if event::poll(TICK).context("failed to read the terminal")? {
                changed = true;
                let event = event::read().context("failed to read the terminal")?;
                if self.handle(&event) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads the reports of the client; returns true if anything is to be drawn.
    fn receive_reports(&mut self) -> anyhow::Result<bool> {
        let had_notice = self.app.notice.is_some();
        self.app.tick(clock::now());
        let mut changed = had_notice != self.app.notice.is_some();
        loop {
            match self.reports.try_recv() {
                Ok(report) => self.app.report(report, clock::now()),
                Err(TryRecvError::Empty) => return Ok(changed),
                Err(TryRecvError::Disconnected) => bail!("the client thread ended"),
            }
            changed = true;
        }
    }

    /// Handles an event; returns true to quit.
    fn handle(&mut self, event: &Event) -> bool {
        let Event::Key(key) = event else { return false };
        match self.app.key(*key, clock::now()) {
            Some(Effect::Quit) => return true,
            Some(Effect::SetMode(change)) => {
                // Waiting for a slow server would delay the keys.
                if let Err(unsent) = self.mode_changes.try_send(change) {
                    self.app.not_sent(unsent_change(unsent), clock::now());
                }
            }
            None => {}
        }
        false
    }
}

fn unsent_change(unsent: std::sync::mpsc::TrySendError<ModeChange>) -> ModeChange {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    match unsent {
        Full(change) | Disconnected(change) => change,
    }
}

/// Snapshots of servers for tests.
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
