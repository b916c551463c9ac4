//! The outside world → new [`Snapshot`](crate::snapshot::Snapshot). The only user of `notify`, of policy, data and key
//! file reads and of outbound HTTP.
//!
//! ```text
//! links, read   what stands on disk, followed link by link and read whole
//! watch         events, debounce and polls: when to look again
//! load          settings + content → compiled policies, profiles, local keys; all problems at once
//! files         the loop over these: looks again, and says what changed
//! network       the requests for keys, over `fetch`
//! discovery     where issuers say that their keys are
//! aside         threads for all that blocks
//! jwks          the life of one issuer's remote keys: refresh, back-off, unknown `kid`, staleness
//! revoked       the revocation file
//! keep          the last good keys on disk, for a start without the network
//! publish       the only writer: puts what files and issuers say together into one snapshot
//! ```
//!
//! Nothing here decides about a request. A state that does not load never replaces one that did, and policies, local
//! keys and each issuer's remote keys fail independently of each other. While a new state loads, the old one serves: for
//! that time memory holds both, and the text of the new one.

mod aside;
mod discovery;
mod files;
mod jwks;
mod keep;
mod links;
mod load;
mod network;
mod publish;
mod read;
mod revoked;
mod sources;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Write as _,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{self, SHA256};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use self::revoked::RevocationFile;
pub use self::{load::Loaded, sources::SourceWatch};
pub use crate::state::describe_io;
use crate::{
    fetch, outbound,
    policy::{self, DataPath},
    shutdown,
    snapshot::{Anonymous, Handle, Problem, SubjectSource},
    token::{IssuerProfile, Transmitter},
};

/// Everything a snapshot is made from. Plain data; `config` and the command line fill it.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bundles: directories or OPA's `.tar.gz`.
    pub bundles: Vec<BundleSpec>,
    /// Plain policy and data files.
    pub data: Vec<DataSpec>,
    /// Load and evaluation limits. Its `http` is made from the next.
    pub policy: policy::Settings,
    /// Whom policies may ask with `http.send`.
    pub outbound: outbound::Settings,
    /// The rule that the deciding doors ask; must exist.
    pub entrypoint: Option<DataPath>,
    /// Where that is written (`claimgate.yaml:12:15`), for the message when it does not exist.
    pub entrypoint_at: Option<String>,
    /// What happens to a request without a token.
    pub anonymous: Anonymous,
    /// Where the caller's live record is.
    pub subject: Option<SubjectSource>,
    /// The watched file of revocations.
    pub revocation_file: Option<PathBuf>,
    /// Issuers and where their keys come from.
    pub profiles: Vec<(IssuerProfile, KeySource)>,
    /// Who may send security event tokens. The keys of each are those of the profile of its name.
    pub transmitters: Vec<Transmitter>,
    /// When to look at the files again.
    pub watch: WatchSettings,
    /// How long [`start`] waits for remote keys. An issuer without keys by then is not fatal: its tokens are answered
    /// with 503 until they come.
    pub startup: Startup,
    /// Where the last good keys of issuers are kept; only takes effect at start.
    pub state_directory: Option<PathBuf>,
    /// Sections of the configuration that only take effect at start.
    pub pinned: Pinned,
}

/// Digests of settings that are not reloaded (`listen`, `decision_log`, …), kept so that a reload can say which of them
/// changed and need a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned(BTreeMap<&'static str, String>);

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleSpec {
    /// Name; module ids start with it.
    pub name: String,
    /// A directory or a `.tar.gz` file.
    pub path: PathBuf,
}

/// One `-d` argument: a directory or a `.rego`, `.json`, `.yaml` or `.yml` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSpec {
    /// Where its data is mounted under `data`; empty for the root.
    pub prefix: Vec<String>,
    /// The directory or file.
    pub path: PathBuf,
}

/// Where one issuer's keys come from.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// Nowhere: the issuer's tokens are opaque, and it is asked about each of them.
    None,
    /// A watched JWKS file. May hold secrets.
    File(PathBuf),
    /// JWKS text. May hold secrets; its `Debug` is redacted.
    Inline(String),
    /// A JWKS URL.
    Url {
        /// `https`, or `http` to a loopback host or with [`fetch::Settings::allow_http`].
        url: String,
        /// How it is fetched.
        fetch: FetchSettings,
    },
    /// OpenID Connect discovery, or RFC 8414 metadata.
    Discovery {
        /// The metadata document; `None`: `/.well-known/openid-configuration` and
        /// `/.well-known/oauth-authorization-server` of the issuer, in turn.
        url: Option<String>,
        /// How it and the keys are fetched.
        fetch: FetchSettings,
    },
}

/// How remote keys are fetched and for how long they are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// Freshness when the answer has no `Cache-Control: max-age`, which is clamped to 60 s..1 h. Default 300 s.
    pub ttl: Duration,
    /// How long keys are used after they stopped being fresh when no new ones can be had. Then they are removed and
    /// the issuer's tokens are answered with 503. Default 24 h.
    pub max_stale: Duration,
    /// At most one fetch per this time because of unknown key ids, whatever its result. Default 30 s.
    pub unknown_kid_cooldown: Duration,
    /// How requests are sent.
    pub http: fetch::Settings,
}

/// When to look at the files again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchSettings {
    /// Use the operating system's change events. Default `true`.
    pub events: bool,
    /// A change is acted on when nothing changed for this long. Default 100 ms.
    pub debounce: Duration,
    /// Where changes never stop, a state is used all the same when this long passed since the first of them, no writer
    /// has a file open, and nothing changed while it was read. Longer than any deployment that writes file by file.
    /// Without events, which alone tell of writers, changes must stop. Changes that go on for twice this time under the
    /// reader are a problem of their own. Default 10 s.
    pub max_debounce: Duration,
    /// Look without an event at this interval; `None` never. Where events do not work, at least every second. Default 5 s.
    pub poll_interval: Option<Duration>,
    /// A failure is reported when it lasts this long after the first bad attempt: a program that writes several files
    /// is not a fault. Default 1 s.
    pub settle: Duration,
}

/// Patience at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Startup {
    /// Default 3 s.
    pub key_wait: Duration,
}

/// How the configuration file is read again.
pub struct Reconfigure {
    /// The file, watched.
    pub path: PathBuf,
    /// Reads it. Called off the async workers whenever any watched file changed. Sections that only take effect at
    /// start are told apart by [`Settings::pinned`], and a change of them is reported as needing a restart.
    pub read: Box<dyn Fn() -> Result<Settings, Vec<Problem>> + Send + Sync>,
}

/// Reads and compiles everything once and checks it: what `check` does, and what [`start`] does first. Remote keys are
/// not fetched.
///
/// # Errors
/// Every problem that was found.
pub fn load_once(settings: &Settings) -> Result<Loaded, Vec<Problem>> {
    load::once(settings).map(|(loaded, _)| loaded)
}

/// Reads the bundles and data of `settings` as they stand, for verbs that put together policy sets of their own. Nothing
/// is compiled or checked; archives are unpacked.
///
/// # Errors
/// Every file that could not be read, or that the files changed all the time.
pub fn read_sources(settings: &Settings) -> Result<Vec<policy::Source>, Vec<Problem>> {
    load::sources(settings)
}

/// Loads everything, fetches remote keys for at most [`Startup::key_wait`], and then keeps the snapshot up to date
/// until `shutdown`. A permit of `force` (SIGHUP) looks at everything at once, remote keys included.
///
/// # Errors
/// Every problem that [`load_once`] would report. A remote key source that cannot be reached is not among them.
pub async fn start(
    settings: Settings,
    reconfigure: Option<Reconfigure>,
    force: Arc<Notify>,
    shutdown: shutdown::Signal,
) -> Result<(Handle, JoinHandle<()>), Vec<Problem>> {
    publish::start(settings, reconfigure, force, shutdown).await
}

// === impl Pinned ===

impl Pinned {
    /// Remembers a section by a digest of its `Debug`, in place of what was remembered of it.
    pub fn set(&mut self, section: &'static str, value: &impl fmt::Debug) {
        let digest = digest::digest(&SHA256, format!("{value:?}").as_bytes());
        let hex = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            // Writing to a `String` does not fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        self.0.insert(section, hex);
    }

    /// The sections that differ.
    fn differences(&self, other: &Self) -> Vec<String> {
        let names: BTreeSet<&str> = self.0.keys().chain(other.0.keys()).copied().collect();
        names.into_iter().filter(|name| self.0.get(name) != other.0.get(name)).map(str::to_owned).collect()
    }
}

// === impl BundleSpec, DataSpec ===

impl BundleSpec {
    /// A bundle given by path only, as `-b` does: its name is the path.
    #[must_use]
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), path }
    }
}

impl FromStr for DataSpec {
    type Err = std::convert::Infallible;

    /// `path`, or `a.b:path` to mount it at `data.a.b`. What stands before the colon is a prefix only when it is a
    /// dotted list of names, so `./dir:with:colons` is a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let prefixed = text.split_once(':').filter(|(prefix, path)| !path.is_empty() && is_dotted_name(prefix));
        Ok(match prefixed {
            Some((prefix, path)) => {
                Self { prefix: prefix.split('.').map(str::to_owned).collect(), path: PathBuf::from(path) }
            }
            None => Self { prefix: Vec::new(), path: PathBuf::from(text) },
        })
    }
}

fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|name| {
        name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    })
}

// === impl KeySource ===

impl KeySource {
    /// Keys of this source come over the network.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Url { .. } | Self::Discovery { .. })
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Self::Url { url, fetch } => f.debug_struct("Url").field("url", url).field("fetch", fetch).finish(),
            Self::Discovery { url, fetch } => {
                f.debug_struct("Discovery").field("url", url).field("fetch", fetch).finish()
            }
        }
    }
}

// === impl Default ===

impl Default for FetchSettings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            max_stale: Duration::from_secs(24 * 60 * 60),
            unknown_kid_cooldown: Duration::from_secs(30),
            http: fetch::Settings::default(),
        }
    }
}

impl Default for WatchSettings {
    fn default() -> Self {
        Self {
            events: true,
            debounce: Duration::from_millis(100),
            max_debounce: Duration::from_secs(10),
            poll_interval: Some(Duration::from_secs(5)),
            settle: Duration::from_secs(1),
        }
    }
}

impl Default for Startup {
    fn default() -> Self {
        Self { key_wait: Duration::from_secs(3) }
    }
}

impl fmt::Debug for Reconfigure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconfigure").field("path", &self.path).finish_non_exhaustive()
    }
}

// === helpers ===

/// Resolves at `instant`; never without one.
async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn unix_now() -> Option<u64> {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|since| since.as_secs())
}
