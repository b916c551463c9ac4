//! `claimgate run`: settings → snapshot → listeners → drain. The order is the point of this file: nothing listens
//! before everything is loaded, and nothing ends before requests under way and the decision log have.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

use super::{Exit, STACK_BYTES, output, settings};
use crate::{
    config::{Origin, Settings},
    reload::{self, Reconfigure},
    revocation::{self, JournalError, Store},
    serve::{self, BindError, Bound, Listen, OpaIdentity},
    shutdown,
    snapshot::{Handle, Problem},
    state::{self, StateError},
    telemetry::{self, LogError, Telemetry},
};

/// How long the decision log may take to be written at the end.
const FLUSH_PATIENCE: Duration = Duration::from_secs(5);
/// How long tasks that nobody waits for may take to see that the program ends.
const RUNTIME_PATIENCE: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  claimgate run -c claimgate.yaml
  claimgate run -c claimgate.yaml --listen 0.0.0.0:8181 --set log.format=json

  # as a plain OPA server, without tokens
  claimgate run -b ./rego -d ./data --set opa.identity=passthrough

SIGTERM and SIGINT drain and end; a second one ends at once. SIGHUP forces a
reload and opens the decision log's file anew.

Exit codes: 0 ended by a signal, 1 a policy, data or key file is wrong or an
address is taken, 2 wrong usage or configuration";

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    #[command(flatten)]
    settings: settings::SettingsArgs,
    /// Where applications and proxies ask: an address such as `127.0.0.1:8181`, or `unix:/path`
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where health, metrics and status are: an address, `unix:/path`, or `none`
    #[arg(long, value_name = "ADDR")]
    admin_listen: Option<String>,
}

/// What is told when everything listens.
#[derive(Debug)]
pub(super) struct Ready {
    /// Addresses of the data plane as bound.
    pub(super) listen: Vec<String>,
    /// Address of the admin listener as bound.
    pub(super) admin: Option<String>,
    /// Address of the listener for issuers as bound.
    pub(super) events: Option<String>,
    /// Revision of the snapshot.
    pub(super) revision: String,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("policies, data or keys do not load")]
    Load(Vec<Problem>),
    #[error("{}", explain_bind(.0, .1))]
    Bind(BindError, &'static str),
    #[error("state.directory: {0}")]
    State(#[from] StateError),
    #[error("{0}")]
    Revocations(#[from] JournalError),
    #[error("{0}; choose another file with `decision_log.path`")]
    DecisionLog(#[from] LogError),
    #[error("signals cannot be handled: {0}")]
    Signals(#[from] std::io::Error),
    #[error("interrupted before the start was complete")]
    Interrupted,
}

pub(super) fn run(args: &RunArgs) -> ExitCode {
    let began = Instant::now();
    let mut flags = Vec::new();
    flags.extend(args.listen.as_deref().map(|value| settings::flag("--listen", "listen", value)));
    flags.extend(args.admin_listen.as_deref().map(|value| settings::flag("--admin-listen", "admin.listen", value)));
    let origin = args.settings.origin(flags);
    let settings = match settings::load(&origin) {
        Ok(settings) => settings,
        Err(problems) => {
            output::complain_of(&problems, "nothing was started");
            return Exit::Usage.into();
        }
    };
    let ready = move |ready: &Ready| {
        tracing::info!(
            listen = ready.listen.join(", "),
            admin = ready.admin.as_deref().unwrap_or("none"),
            events = ready.events.as_deref().unwrap_or("none"),
            revision = ready.revision,
            version = env!("CARGO_PKG_VERSION"),
            started_in_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "claimgate is ready"
        );
    };
    serve(settings, reconfigure(origin), ready)
}

/// Serves until a signal says otherwise. `ready` is called once, when everything listens.
pub(super) fn serve(settings: Settings, reconfigure: Option<Reconfigure>, ready: impl FnOnce(&Ready)) -> ExitCode {
    if let Err(error) = telemetry::init_logging(&settings.log) {
        output::complain(&error.to_string());
        return Exit::Usage.into();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("claimgate-worker")
        .thread_stack_size(STACK_BYTES)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("the runtime cannot be started: {error}"));
            return Exit::Failed.into();
        }
    };
    let served = runtime.block_on(start_and_serve(settings, reconfigure, ready));
    runtime.shutdown_timeout(RUNTIME_PATIENCE);
    match served {
        Ok(telemetry) => {
            if !telemetry.flush(FLUSH_PATIENCE) {
                tracing::warn!("the decision log could not be written to its end");
            }
            tracing::info!("stopped");
            Exit::Done.into()
        }
        Err(Failure::Load(problems)) => {
            let lines: Vec<String> = problems.iter().map(line).collect();
            output::complain_of(&lines, "nothing was started");
            Exit::Failed.into()
        }
        Err(failure) => {
            output::complain(&failure.to_string());
            if matches!(failure, Failure::DecisionLog(_) | Failure::State(_)) {
                Exit::Usage.into()
            } else {
                Exit::Failed.into()
            }
        }
    }
}

async fn start_and_serve(
    settings: Settings,
    reconfigure: Option<Reconfigure>,
    ready: impl FnOnce(&Ready),
) -> Result<Telemetry, Failure> {
    let (trigger, mut told) = shutdown::channel();
    let (hurry, mut hurried) = shutdown::channel();
    let force = Arc::new(Notify::new());
    // Before anything that takes time: the system's own handling of a signal ends the program.
    let hangups = signal(SignalKind::hangup())?;
    tokio::spawn(obey_signals(trigger, hurry));

    if let Some(directory) = &settings.state_directory {
        state::prepare(directory)?;
    }
    let revocations = open_revocations(settings.revocation, settings.serve.revocation_credentials.is_some()).await?;
    let started = reload::start(settings.reload, reconfigure, Arc::clone(&force), told.clone());
    let (snapshots, reloading) = tokio::select! {
        started = started => started.map_err(Failure::Load)?,
        () = told.begun() => return Err(Failure::Interrupted),
    };
    let telemetry = Telemetry::new(settings.decision_log, snapshots.clone(), Arc::clone(&revocations))?;
    let bound = serve::bind(&settings.serve).await.map_err(|error| {
        let flag = flag_of(&error, &settings.serve);
        Failure::Bind(error, flag)
    })?;
    tokio::spawn(obey_hangups(hangups, force, telemetry.clone()));
    tokio::spawn(watch_over(reloading, told.clone()));
    tokio::spawn(Arc::clone(&revocations).keep_tidy(snapshots.clone(), told.clone()));
    if settings.serve.opa_identity == OpaIdentity::Passthrough {
        tracing::warn!("`opa.identity` is `passthrough`: no token is looked at, and callers write the whole input");
    }

    ready(&describe(&bound, &snapshots));
    tokio::select! {
        drained = bound.serve(settings.serve, snapshots, telemetry.clone(), revocations, told) => {
            if !drained {
                tracing::warn!("requests were still under way when `shutdown.grace` ended; their connections were closed");
            }
        }
        () = hurried.begun() => tracing::warn!("a second signal: ending without a drain"),
    }
    Ok(telemetry)
}

/// Reads the journal: whoever is admitted before that may have been revoked.
async fn open_revocations(settings: revocation::Settings, can_be_posted: bool) -> Result<Arc<Store>, Failure> {
    if settings.directory.is_none() && can_be_posted {
        tracing::warn!(
            "no `state.directory` is set: revocations that are received are forgotten when the program ends"
        );
    }
    let store = tokio::task::spawn_blocking(move || Store::open(&settings)).await.map_err(std::io::Error::from)??;
    Ok(Arc::new(store))
}

fn describe(bound: &Bound, snapshots: &Handle) -> Ready {
    Ready {
        listen: bound.addresses(),
        admin: bound.admin_address(),
        events: bound.events_address(),
        revision: snapshots.current().revision.clone(),
    }
}

/// The first SIGTERM or SIGINT begins the drain, the second ends it.
async fn obey_signals(drain: shutdown::Trigger, hurry: shutdown::Trigger) {
    for trigger in [&drain, &hurry] {
        if let Err(error) = shutdown::terminate().await {
            tracing::warn!(%error, "signals cannot be handled: SIGTERM will end the program without a drain");
            break;
        }
        trigger.begin();
    }
    // A trigger that is gone counts as pulled.
    std::future::pending::<()>().await;
}

/// SIGHUP: look at every file and fetch every remote key now, and open the decision log's file anew.
async fn obey_hangups(mut hangups: Signal, force: Arc<Notify>, telemetry: Telemetry) {
    while hangups.recv().await.is_some() {
        tracing::info!("SIGHUP: reloading, and opening the decision log anew");
        force.notify_one();
        telemetry.reopen_decision_log();
    }
}

/// Without the reload task the snapshot would grow old unseen.
async fn watch_over(reloading: tokio::task::JoinHandle<()>, told: shutdown::Signal) {
    let ended = reloading.await;
    if !told.has_begun() {
        tracing::error!(
            ?ended,
            "reloading has stopped: changes are not seen any more; restart, and please report this"
        );
    }
}

/// How the configuration file is read again.
pub(super) fn reconfigure(origin: Origin) -> Option<Reconfigure> {
    let path = origin.file.clone()?;
    let read = move || match settings::load(&origin) {
        Ok(settings) => Ok(settings.reload),
        Err(problems) => Err(problems.into_iter().map(Problem::from).collect()),
    };
    Some(Reconfigure { path, read: Box::new(read) })
}

/// Which flag says where this listener is.
fn flag_of(error: &BindError, settings: &serve::Settings) -> &'static str {
    let is_admin = settings.admin.as_ref().is_some_and(|admin| match admin {
        Listen::Tcp(address) => error.address == address.to_string(),
        Listen::Unix { path, .. } => error.address == format!("unix://{}", path.display()),
    });
    if is_admin { "--admin-listen" } else { "--listen" }
}

fn explain_bind(error: &BindError, flag: &str) -> String {
    let BindError { address, source } = error;
    let hint = format!("choose another address with `{flag}`");
    match source.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program; stop it, or {hint}")
        }
        std::io::ErrorKind::PermissionDenied => format!("{address}: permission denied; {hint}"),
        std::io::ErrorKind::AddrNotAvailable => format!("{address} is not an address of this machine; {hint}"),
        std::io::ErrorKind::NotFound => format!("{address}: the directory does not exist; make it, or {hint}"),
        _ => format!("cannot listen on {address}: {}; {hint}", reload::describe_io(source)),
    }
}

/// `file:line:column: code: message`, as OPA writes it.
pub(super) fn line(problem: &Problem) -> String {
    match &problem.location {
        Some(location) => format!("{location}: {}: {}", problem.code, problem.message),
        None => format!("{}: {}", problem.code, problem.message),
    }
}
