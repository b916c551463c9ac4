//! Changes of the sources of policies and data, for whoever reads and compiles them otherwise than a snapshot is made. It
//! tells that something changed and never what.

use super::{Settings, links::Watched, read::Picture, watch::Watcher};

/// Watches the sources that settings name.
#[derive(Debug)]
pub struct SourceWatch {
    settings: Settings,
    watcher: Watcher,
    seen: Picture,
}

// === impl SourceWatch ===

impl SourceWatch {
    /// What changes after this is told.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let watcher = Watcher::new(&settings.watch);
        let mut watch = Self { settings, watcher, seen: Picture::default() };
        watch.seen = watch.look();
        watch
    }

    /// Waits until something is different and nothing changes any more. May be dropped at any time.
    pub async fn changed(&mut self) {
        loop {
            match self.watcher.poll_interval(&self.settings.watch) {
                // A poll that sees nothing costs one look.
                Some(interval) => {
                    let _ = tokio::time::timeout(interval, self.watcher.changed()).await;
                }
                None => self.watcher.changed().await,
            }
            self.watcher.settled(&self.settings.watch).await;
            let lost = self.watcher.take_overflow();
            let now = self.look();
            if lost || now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    fn look(&self) -> Picture {
        loop {
            let mut watched = Watched::default();
            let picture = Picture::take(self.settings.places(), self.settings.limits(), &mut watched);
            // What changed before a directory was watched is only seen by looking again.
            if !self.watcher.sync(&watched) {
                return picture;
            }
        }
    }
}
