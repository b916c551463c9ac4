//! Where an evaluation runs. Most policies are evaluated on the worker that has the request: they take microseconds and
//! the engine's own deadline ends them. A policy whose builtins the deadline cannot interrupt, or that
//! may wait for `http.send`, goes to a bounded pool of blocking threads, so that the caller gets its answer in time
//! whatever the builtin does. Those that wait have places of their own: a slow server takes none from the others. The
//! pool also makes the engine that some evaluations need besides the one a snapshot is loaded with.

use std::{sync::Arc, time::Duration};

use super::App;
use crate::{
    policy::{DataPath, EvalError, EvalErrorKind, EvalOptions, Outcome, Value},
    snapshot::Snapshot,
};

/// How much later than the engine's deadline the caller stops waiting: the engine answers first when it can.
const SLACK: Duration = Duration::from_millis(50);
/// How long a caller waits for an engine to be made, once for each snapshot: a second is enough for 10,000 rules.
const MAKING: Duration = Duration::from_secs(10);

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Evaluation(EvalError),
    /// All threads for evaluations that may block are taken.
    #[error("too many evaluations are under way")]
    Overloaded,
}

/// Evaluates `data.<path>`.
pub(super) async fn evaluate(
    app: &App,
    snapshot: &Arc<Snapshot>,
    path: &DataPath,
    input: Option<Value>,
    options: EvalOptions,
) -> Result<Outcome, Failure> {
    let waits = snapshot.policies.reaches_network(path);
    let mut patience = options.deadline.unwrap_or(snapshot.policies.deadline(path)) + SLACK;
    if !waits && !snapshot.policies.may_block() {
        if let Some(result) = snapshot.policies.evaluate_if_made(path, input.clone(), &options) {
            return result.map_err(Failure::Evaluation);
        }
        patience += MAKING;
    }
    let places = if waits { &app.waiting } else { &app.blocking };
    // A thread that does not come back keeps its permit, so the pool cannot grow beyond its bound.
    let Ok(Ok(permit)) = tokio::time::timeout(patience, Arc::clone(places).acquire_owned()).await else {
        return Err(Failure::Overloaded);
    };
    let (policies, path) = (Arc::clone(&snapshot.policies), path.clone());
    let work = tokio::task::spawn_blocking(move || {
        let result = policies.evaluate(&path, input, &options);
        drop(permit);
        result
    });
    let failed =
        |kind, message: &str| EvalError { kind, message: message.to_owned(), location: None, details: Vec::new() };
    match tokio::time::timeout(patience, work).await {
        Ok(Ok(result)) => result.map_err(Failure::Evaluation),
        Ok(Err(_)) => Err(Failure::Evaluation(failed(EvalErrorKind::Panic, "evaluation ended unexpectedly"))),
        Err(_) => Err(Failure::Evaluation(failed(
            EvalErrorKind::Deadline,
            "evaluation did not end in time; a builtin is still running",
        ))),
    }
}

// === impl Failure ===

impl Failure {
    /// Stable code.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Evaluation(error) => error.kind.code(),
            Self::Overloaded => "evaluation_overloaded",
        }
    }
}
