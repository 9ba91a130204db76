//! Settings that change while the server runs: by SIGHUP from the file, and one by one over HTTP.

use super::engine_settings::{live_config, with_usable_folders};
use crate::cli::signals::Followed;
use config::{CHANGEABLE, Config, ServeArgs};
use engine::EngineHandle;
use server::{LiveSettings, SettingChange};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The settings in force.
pub(super) struct Live {
    engine: EngineHandle,
    /// The settings at the start.
    begun: Config,
    state: Mutex<LiveState>,
}

struct LiveState {
    /// The settings of the file and the command line.
    given: Config,
    /// The settings with the changes that were made since.
    now: Config,
}

impl std::fmt::Debug for Live {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Live").finish_non_exhaustive()
    }
}

impl Live {
    pub(super) fn new(begun: Config, engine: EngineHandle) -> Arc<Live> {
        let state = Mutex::new(LiveState { given: begun.clone(), now: begun.clone() });
        Arc::new(Live { engine, begun, state })
    }

    /// Reads the settings again at each SIGHUP, and applies those that can change.
    pub(super) fn follow_file(self: Arc<Live>, args: ServeArgs) -> anyhow::Result<()> {
        if args.config.is_none() {
            return Ok(());
        }
        let signals = Followed::new(Vec::new())?;
        let reread = move || self.reread(&args);
        tokio::spawn(signals.follow("the settings", reread));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, LiveState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all settings by those of the file.
    fn reread(&self, args: &ServeArgs) -> anyhow::Result<()> {
        let new = with_usable_folders(Config::load(args)?)?;
        let mut state = self.lock();
        self.engine.configure(live_config(&new))?;
        tracing::info!("changed: {}", or_nothing(&state.now.changes(&new).live));
        let waiting = self.begun.changes(&new).waiting;
        if !waiting.is_empty() {
            tracing::warn!("in force only after a restart: {}", waiting.join(", "));
        }
        *state = LiveState { given: new.clone(), now: new };
        Ok(())
    }
}

impl LiveSettings for Live {
    fn changed(&self) -> Vec<SettingChange> {
        let state = self.lock();
        let changes = CHANGEABLE.iter().map(|name| change(name, &state.given, &state.now));
        changes.filter(|change| change.setting != change.before).collect()
    }

    fn apply(&self, line: &str) -> anyhow::Result<SettingChange> {
        let mut state = self.lock();
        let (new, name) = state.now.with_line(line)?;
        self.engine.configure(live_config(&new))?;
        let change = change(&name, &state.now, &new);
        tracing::info!(setting = %change.setting, before = %change.before, "changed over HTTP");
        state.now = new;
        Ok(change)
    }
}

fn change(name: &str, old: &Config, new: &Config) -> SettingChange {
    let line = |config: &Config| config.line_of(name).unwrap_or_default();
    SettingChange { name: name.to_owned(), setting: line(new), before: line(old) }
}

fn or_nothing(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
