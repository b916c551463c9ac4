//! Signals → drain. One [`Trigger`] starts the shutdown; every [`Signal`] sees it. No policy lives here: who drains
//! what, and for how long, is `serve`'s and `cli::run`'s business.

use tokio::sync::watch;

/// Starts the shutdown.
#[derive(Debug, Clone)]
pub struct Trigger(watch::Sender<bool>);

/// Waits for the shutdown.
#[derive(Debug, Clone)]
pub struct Signal(watch::Receiver<bool>);

/// A connected pair.
#[must_use]
pub fn channel() -> (Trigger, Signal) {
    let (tx, rx) = watch::channel(false);
    (Trigger(tx), Signal(rx))
}

impl Trigger {
    /// Begins the shutdown; later calls change nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Signal {
    /// Has the shutdown begun?
    #[must_use]
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves when the shutdown begins, or when its trigger is gone.
    pub async fn begun(&mut self) {
        // An `Err` means that every trigger is gone: nobody can ask for a shutdown any more, so it is one.
        let _ = self.0.wait_for(|begun| *begun).await;
    }
}

/// Resolves at the first SIGTERM or SIGINT.
///
/// # Errors
/// The operating system's error when a handler cannot be installed.
pub async fn terminate() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
