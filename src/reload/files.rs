//! The loop over everything that stands on disk: waits for a sign of change, looks, loads, and says what came of it.
//!
//! It holds no snapshot and publishes none. What it reads is one state of the world: nothing changed between the
//! picture before and the picture after, and nothing had changed shortly before. Only where changes never stop is the
//! last waived, see [`super::WatchSettings::max_debounce`]. A writer that closes a file half-way and goes on later than
//! that cannot be told from one that is done; such writers must write beside and rename.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep},
};

use super::{
    Reconfigure, RevocationFile, Settings, aside,
    links::Watched,
    load::{self, Attempt, Loaded, unstable},
    read::{Limits, Picture, Place, PlaceKind},
    until,
    watch::Watcher,
};
use crate::{snapshot::Problem, token::KeySet};

/// Pictures taken in a row because new directories appeared; the next event goes on from there.
const MAX_PICTURES: usize = 8;

/// What came of a look, for the publisher.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// New settings, when the configuration changed and all of them hold.
    pub(super) settings: Option<Arc<Settings>>,
    /// The new world, when it loaded.
    pub(super) world: Option<Loaded>,
    /// Local keys that loaded.
    pub(super) local_keys: BTreeMap<String, Arc<KeySet>>,
    /// Local keys that did not.
    pub(super) key_problems: BTreeMap<String, Problem>,
    /// What the revocation file says, when it was read.
    pub(super) revoked: Option<RevocationFile>,
    /// What to tell the operator; `None` when nothing new. Empty: all is well.
    pub(super) report: Option<Vec<Problem>>,
    /// The operator asked for it: fetch remote keys too.
    pub(super) is_forced: bool,
}

/// The loop's state.
#[derive(Debug)]
pub(super) struct Files {
    /// How one look is done.
    look: Look,
    out: mpsc::Sender<Change>,
    force: Arc<Notify>,
    /// Problems not yet told, and when they will be.
    held: Option<(Vec<Problem>, Instant)>,
    /// Problems as last told.
    told: Vec<Problem>,
}

/// What one look needs. Goes to a blocking thread and is a cheap clone.
#[derive(Debug, Clone)]
struct Look {
    settings: Arc<Settings>,
    reconfigure: Option<Arc<Reconfigure>>,
    watcher: Arc<Watcher>,
    /// The last picture that was acted on; `None` acts on the next whatever it shows.
    seen: Option<Arc<Picture>>,
    /// What the current policies were compiled from.
    before: Loaded,
    /// What the revocation file said when it was last read.
    revoked: RevocationFile,
    /// Use a state however fresh it is.
    is_urgent: bool,
}

/// A reason to look.
#[derive(Debug, Clone, Copy)]
struct Sign {
    /// The operator asked.
    is_forced: bool,
    /// When it came.
    at: Instant,
}

/// What one look found.
#[derive(Debug)]
enum Looked {
    /// What was seen last.
    Same,
    /// Something is being written; look again after this.
    Moving(Duration),
    /// Loaded, or not.
    Done(Box<Outcome>),
}

#[derive(Debug)]
struct Outcome {
    picture: Picture,
    /// Settings that differ from the current ones and loaded without a problem.
    adopted: Option<Arc<Settings>>,
    attempt: Attempt,
    problems: Vec<Problem>,
}

// === impl Sign, Files ===

impl Sign {
    fn new(is_forced: bool) -> Self {
        Self { is_forced, at: Instant::now() }
    }
}

impl Files {
    /// The loop, before its first turn. `picture` is what `loaded` was made from.
    pub(super) fn new(
        settings: Arc<Settings>,
        reconfigure: Option<Reconfigure>,
        (loaded, picture): (Loaded, Picture),
        out: mpsc::Sender<Change>,
        force: Arc<Notify>,
    ) -> Self {
        let watcher = Arc::new(Watcher::new(&settings.watch));
        let look = Look {
            settings,
            reconfigure: reconfigure.map(Arc::new),
            watcher,
            seen: Some(Arc::new(picture)),
            revoked: loaded.revoked.clone(),
            before: loaded,
            is_urgent: false,
        };
        Self { look, out, force, held: None, told: Vec::new() }
    }

    /// Turns until the publisher is gone.
    pub(super) async fn run(mut self) {
        self.begin().await;
        let mut sign = Sign::new(false);
        loop {
            let Some(mut change) = self.turn(sign).await else { return };
            change.is_forced = sign.is_forced;
            if self.out.send(change).await.is_err() {
                return;
            }
            let Some(next) = self.sign().await else { return };
            sign = next;
        }
    }

    /// Before the first turn: adds the configuration file to what is watched, unless it already says something else
    /// than the settings that were loaded; then the first turn must act on it.
    async fn begin(&mut self) {
        let look = self.look.clone();
        let seen = aside::run(move || look.first_picture()).await;
        self.look.seen = seen.ok().flatten().map(Arc::new);
    }

    /// Waits for a reason to look. Tells held problems in the meantime.
    async fn sign(&mut self) -> Option<Sign> {
        let settings = self.look.settings.watch.clone();
        loop {
            let poll = self.look.watcher.poll_interval(&settings);
            let tell_at = self.held.as_ref().map(|held| held.1);
            tokio::select! {
                biased;
                () = self.force.notified() => return Some(Sign::new(true)),
                () = until(tell_at) => {
                    let report = self.held.take().map(|(problems, _)| self.tell(problems));
                    self.out.send(Change { report, ..Change::default() }).await.ok()?;
                }
                () = self.look.watcher.changed() => {
                    let sign = Sign::new(false);
                    tokio::select! {
                        () = self.look.watcher.settled(&settings) => return Some(sign),
                        () = self.force.notified() => return Some(Sign { is_forced: true, ..sign }),
                    }
                }
                () = until(poll.map(|interval| Instant::now() + interval)) => return Some(Sign::new(false)),
            }
        }
    }

    /// Looks until what it sees holds still.
    async fn turn(&mut self, Sign { is_forced, at }: Sign) -> Option<Change> {
        if is_forced || self.look.watcher.take_overflow() {
            self.look.seen = None;
        }
        loop {
            if self.out.is_closed() {
                return None;
            }
            let mut look = self.look.clone();
            let watch = &self.look.settings.watch;
            let patience = watch.max_debounce.max(watch.debounce);
            look.is_urgent = at.elapsed() >= patience && self.look.watcher.is_quiet(watch);
            match aside::run(move || look.run()).await {
                Ok(Looked::Same) => return Some(Change::default()),
                Ok(Looked::Moving(_)) if at.elapsed() >= patience * 2 => {
                    self.look.seen = None;
                    return Some(self.conclude(Change::default(), vec![unstable()], is_forced));
                }
                Ok(Looked::Moving(wait)) => {
                    sleep(wait).await;
                    self.look.watcher.settled(&self.look.settings.watch).await;
                }
                Ok(Looked::Done(outcome)) => return Some(self.accept(*outcome, is_forced)),
                Err(problem) => {
                    self.look.seen = None;
                    return Some(self.conclude(Change::default(), vec![problem], is_forced));
                }
            }
        }
    }

    fn accept(&mut self, outcome: Outcome, is_forced: bool) -> Change {
        let Outcome { picture, adopted, attempt, problems } = outcome;
        // What could not be read may become readable without a trace in the picture.
        let is_unreadable = problems.iter().any(|problem| problem.code == "file_unreadable") && !picture.has_errors();
        self.look.seen = (!is_unreadable).then(|| Arc::new(picture));
        if let Some(settings) = &adopted {
            self.look.settings = Arc::clone(settings);
        }
        let world = attempt.world.ok();
        if let Some(world) = &world {
            self.look.before = world.clone();
        }
        let revoked = attempt.revoked.ok();
        if let Some(revoked) = &revoked {
            self.look.revoked = revoked.clone();
        }
        let change = Change {
            settings: adopted,
            world,
            local_keys: attempt.local_keys,
            key_problems: attempt.key_problems,
            revoked,
            report: None,
            is_forced,
        };
        self.conclude(change, problems, is_forced)
    }

    /// Decides when the operator hears of `problems`: at once when it is what was asked for or all is well, else when
    /// they last.
    fn conclude(&mut self, mut change: Change, mut problems: Vec<Problem>, is_forced: bool) -> Change {
        problems.sort_by(|a, b| (&a.location, &a.code, &a.message).cmp(&(&b.location, &b.code, &b.message)));
        problems.dedup();
        let settle = self.look.settings.watch.settle;
        if problems == self.told && !is_forced {
            self.held = None;
            // A success is worth telling each time: it counts and has a time.
            change.report = problems.is_empty().then(Vec::new);
        } else if problems.is_empty() || is_forced || settle.is_zero() {
            self.held = None;
            change.report = Some(self.tell(problems));
        } else {
            let deadline = self.held.as_ref().map_or_else(|| Instant::now() + settle, |held| held.1);
            self.held = Some((problems, deadline));
        }
        change
    }

    fn tell(&mut self, problems: Vec<Problem>) -> Vec<Problem> {
        self.told.clone_from(&problems);
        problems
    }
}

// === impl Look ===

impl Look {
    fn run(&self) -> Looked {
        if let Some(seen) = &self.seen
            && self.picture(seen.places().cloned().collect(), self.settings.limits()) == **seen
        {
            return Looked::Same;
        }
        let config = Picture::take(self.config_place(), self.settings.limits(), &mut Watched::default());
        let candidate = match self.reconfigure.as_ref().map(|reconfigure| (reconfigure.read)()) {
            None => Ok(None),
            Some(Ok(settings)) if settings.fingerprint() == self.settings.fingerprint() => Ok(None),
            Some(Ok(settings)) => Ok(Some(Arc::new(settings))),
            Some(Err(problems)) => Err(problems),
        };
        let mut problems = Vec::new();
        let mut seen = Picture::default();
        match candidate {
            Ok(None) => {}
            Err(more) => problems.extend(more),
            Ok(Some(settings)) => match self.attempt(&settings, &config) {
                Err(wait) => return Looked::Moving(wait),
                Ok((attempt, mut picture)) => {
                    problems.extend(attempt.problems());
                    if problems.is_empty() {
                        let kept: Vec<Place> = settings.places().into_iter().chain(self.config_place()).collect();
                        picture.retain(&kept);
                        let adopted = Some(settings);
                        return Looked::Done(Box::new(Outcome { picture, adopted, attempt, problems }));
                    }
                    seen = picture;
                }
            },
        }
        // The current configuration lives on, and with it the files that it names.
        match self.attempt(&self.settings, &config) {
            Err(wait) => Looked::Moving(wait),
            Ok((attempt, picture)) => {
                problems.extend(attempt.problems());
                seen.merge(picture);
                Looked::Done(Box::new(Outcome { picture: seen, adopted: None, attempt, problems }))
            }
        }
    }

    /// Reads and builds what `settings` name; `Err` is how long to wait for the files to hold still.
    fn attempt(&self, settings: &Settings, config: &Picture) -> Result<(Attempt, Picture), Duration> {
        let quiet = self.settings.watch.debounce.max(Duration::from_millis(1));
        let mut places = settings.places();
        places.extend(self.settings.places());
        places.extend(self.config_place());
        let picture = self.picture(places.clone(), settings.limits());
        if !picture.contains(config) {
            return Err(quiet);
        }
        if let Some(wait) = picture.too_fresh(quiet, SystemTime::now()).filter(|_| !self.is_urgent) {
            return Err(wait);
        }
        let gathered = load::gather(settings, &picture).ok_or(quiet)?;
        if self.picture(places, settings.limits()) != picture {
            return Err(quiet);
        }
        Ok((load::build(settings, gathered, Some(&self.before), Some(&self.revoked)), picture))
    }

    /// A picture taken while every directory in it was already watched: whatever changes from here on gives a sign.
    fn picture(&self, places: Vec<Place>, limits: Limits) -> Picture {
        for _ in 0..MAX_PICTURES {
            let mut watched = Watched::default();
            let picture = Picture::take(places.iter().cloned(), limits, &mut watched);
            if !self.watcher.sync(&watched) {
                return picture;
            }
        }
        Picture::take(places, limits, &mut Watched::default())
    }

    /// What was loaded plus the configuration file; `None` when that says something else by now.
    fn first_picture(&self) -> Option<Picture> {
        let mut picture = self.seen.as_deref().cloned()?;
        picture.merge(Picture::take(self.config_place(), self.settings.limits(), &mut Watched::default()));
        let Some(reconfigure) = &self.reconfigure else { return Some(picture) };
        let is_same = (reconfigure.read)().is_ok_and(|settings| settings.fingerprint() == self.settings.fingerprint());
        is_same.then_some(picture)
    }

    fn config_place(&self) -> Option<Place> {
        let reconfigure = self.reconfigure.as_ref()?;
        Some(Place { path: reconfigure.path.clone(), kind: PlaceKind::Config })
    }
}
