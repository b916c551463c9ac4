//! The open connections of one listener: each is a task, and when there is no place for another, the one that has
//! awaited a request longest gives way. It never ends a connection that is answering, and it reads and writes nothing.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::Notify,
    task::{AbortHandle, Id, JoinSet},
};

/// The state of a connection that is answering.
const ANSWERING: u64 = u64::MAX;

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    limit: usize,
    turns: Arc<Turns>,
    tasks: JoinSet<()>,
    open: HashMap<Id, (Activity, AbortHandle)>,
}

/// What one connection does now.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    /// `ANSWERING`, or the turn from which on it awaits a request.
    state: Arc<AtomicU64>,
    turns: Arc<Turns>,
}

/// Orders the moments from which on connections await a request.
#[derive(Debug, Default)]
struct Turns {
    next: AtomicU64,
    /// A connection has stopped answering.
    idled: Notify,
}

// === impl Connections ===

impl Connections {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, turns: Arc::default(), tasks: JoinSet::new(), open: HashMap::new() }
    }

    /// Starts a connection; `run` gets what it tells its activity by.
    pub(super) fn start<F>(&mut self, run: impl FnOnce(Activity) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let activity = Activity::new(Arc::clone(&self.turns));
        let task = self.tasks.spawn(run(activity.clone()));
        self.open.insert(task.id(), (activity, task));
    }

    /// Waits until a connection has ended, and forgets it. Can be cancelled.
    pub(super) async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => pending().await,
        };
        self.open.remove(&id);
    }

    /// Is there no place for another?
    pub(super) fn is_full(&self) -> bool {
        self.open.len() >= self.limit
    }

    /// Waits until there is a place. `true`: a connection was closed for it. Can be cancelled.
    pub(super) async fn place(&mut self) -> bool {
        while self.is_full() {
            if self.close_longest_idle() {
                return true;
            }
            let turns = Arc::clone(&self.turns);
            tokio::select! {
                () = self.ended() => {}
                () = turns.idled.notified() => {}
            }
        }
        false
    }

    /// Ends all that are still open.
    pub(super) async fn shutdown(&mut self) {
        self.tasks.shutdown().await;
    }

    /// `false`: all are answering.
    fn close_longest_idle(&mut self) -> bool {
        let idle = self.open.iter().filter_map(|(id, (activity, _))| Some((activity.idle_since()?, *id)));
        let Some((since, id)) = idle.min_by_key(|(since, _)| *since) else { return false };
        // In between, its request may have come: then it stays.
        if self.open.get(&id).is_some_and(|(activity, _)| activity.close(since))
            && let Some((_, task)) = self.open.remove(&id)
        {
            task.abort();
            return true;
        }
        self.close_longest_idle()
    }
}

// === impl Activity ===

impl Activity {
    fn new(turns: Arc<Turns>) -> Self {
        Self { state: Arc::new(AtomicU64::new(turns.next())), turns }
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.state.store(ANSWERING, Relaxed);
    }

    /// It has its answer.
    pub(super) fn end(&self) {
        self.state.store(self.turns.next(), Relaxed);
        self.turns.idled.notify_one();
    }

    fn idle_since(&self) -> Option<u64> {
        Some(self.state.load(Relaxed)).filter(|state| *state != ANSWERING)
    }

    /// `false`: it no longer awaits the request that it awaited then.
    fn close(&self, since: u64) -> bool {
        self.state.compare_exchange(since, ANSWERING, Relaxed, Relaxed).is_ok()
    }
}

// === impl Turns ===

impl Turns {
    fn next(&self) -> u64 {
        self.next.fetch_add(1, Relaxed)
    }
}
