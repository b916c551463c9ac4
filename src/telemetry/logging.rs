//! Log set-up: `tracing` to stderr, as text or JSON lines. Decision events do not come this way.

use std::{io::IsTerminal, str::FromStr};

use tracing_subscriber::{EnvFilter, fmt};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line a record, for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Log settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Text or JSON.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug`, `trace`, or `tracing` directives such as `claimgate=debug,info`.
    pub level: String,
}

/// The level is not a valid filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("log level `{0}` is not `error`, `warn`, `info`, `debug`, `trace` or a list of `target=level`")]
pub struct InvalidLevel(pub String);

/// Installs the process's log subscriber. A second call changes nothing.
///
/// # Errors
/// [`InvalidLevel`] when the level is no filter.
pub fn init(settings: &Settings) -> Result<(), InvalidLevel> {
    let filter = settings.filter()?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    // Err: a subscriber is already there (tests, or a second start in one process), and it keeps working.
    let _ = match settings.format {
        Format::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    Ok(())
}

impl Settings {
    /// Checks the level without installing anything.
    ///
    /// # Errors
    /// [`InvalidLevel`] when the level is no filter.
    pub fn check(&self) -> Result<(), InvalidLevel> {
        self.filter().map(drop)
    }

    fn filter(&self) -> Result<EnvFilter, InvalidLevel> {
        let invalid = || InvalidLevel(self.level.clone());
        // A bare word that is no level would be taken for a target and silence everything.
        let plain_word = !self.level.contains(['=', ',']);
        if plain_word && tracing::level_filters::LevelFilter::from_str(&self.level).is_err() {
            return Err(invalid());
        }
        EnvFilter::try_new(&self.level).map_err(|_| invalid())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { format: Format::Text, level: "info".to_owned() }
    }
}
