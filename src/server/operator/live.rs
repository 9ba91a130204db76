//! The settings that can change while the server runs, as an interface for HTTP.

use serde::Serialize;

/// The current settings, which the program owns.
pub trait LiveSettings: std::fmt::Debug + Send + Sync {
    /// Returns the settings that differ from those of the configuration file and the command line.
    fn changed(&self) -> Vec<SettingChange>;

    /// Applies a line of the configuration file until the server ends or reads its file again.
    ///
    /// # Errors
    /// If the line cannot be applied (422), or an `Error` of the engine.
    fn apply(&self, line: &str) -> anyhow::Result<SettingChange>;
}

/// A change of one setting. Both values are lines of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    pub name: String,
    /// The current value.
    pub setting: String,
    /// The former value.
    pub before: String,
}
