//! The journal on disk: one thread that appends, makes durable, acknowledges, and now and then writes the file anew.
//!
//! Whatever arrives while a write is under way goes out with the next one, so many callers share one `fsync`. After a
//! failure the file is cut back to its last durable byte before anything else is written; a file that cannot be cut
//! takes nothing more. What was in memory and failed to get on disk is written when it is said again, though it is not
//! new then.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
};

use tokio::sync::oneshot;

use super::{
    entries::Entries,
    record::{self, Frame, HEADER, LONGEST_FRAME, Record},
};

/// The journal's name in the state directory.
const NAME: &str = "revocations.journal";
/// Locked for as long as a process uses the journal. A file of its own, because the journal is replaced.
const LOCK: &str = "revocations.lock";
/// Where the next journal is written.
const NEW: &str = ".revocations.journal.new";
/// Requests that may wait for the disk.
const QUEUE: usize = 1024;
/// Requests that share one `fsync`.
const MOST_SHARED: usize = 256;

/// Why the journal cannot be used. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("`{}` is locked by another process; two of them cannot share one `state.directory`", .0.display())]
    InUse(PathBuf),
    /// The system says no.
    #[error("`{}` cannot be used: {}", .0.display(), crate::state::describe_io(.1))]
    Io(PathBuf, #[source] io::Error),
    /// It begins with something else.
    #[error(
        "`{}` is not a journal that this version can read; start the version that wrote it, or move the file away and \
         send the revocations again", .0.display()
    )]
    Foreign(PathBuf),
    /// It is damaged where no torn write can have done it.
    #[error(
        "`{}` is damaged at byte {offset}: {what}; {good} entries before it can be read, and those after it cannot. To \
         lose them, cut the file with `truncate --size={offset}`, and send the revocations since again", .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damage begins.
        offset: usize,
        /// What is wrong.
        what: &'static str,
        /// Entries before it.
        good: usize,
    },
}

/// The thread, as its callers see it.
#[derive(Debug)]
pub(super) struct Journal {
    orders: SyncSender<Order>,
    state: Arc<State>,
}

/// What is known about the file, for metrics and the status.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) bytes: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) errors: AtomicU64,
    /// Something is in memory that is not on disk, and was not acknowledged: what is said again must be written.
    is_behind: AtomicBool,
}

/// What the thread is asked to do.
enum Order {
    /// Make these durable. Those that are not new only need what was asked before to be durable.
    Append { records: Vec<(Record, bool)>, done: oneshot::Sender<bool> },
    /// Write the file anew with what the entries say now.
    Compact,
}

/// The thread's own.
struct Writer {
    directory: PathBuf,
    file: File,
    /// Everything before it is durable.
    durable: u64,
    /// The file may go on after `durable`.
    is_torn: bool,
    state: Arc<State>,
    entries: Arc<Entries>,
    /// Unlocked when it is closed.
    _lock: File,
}

/// Reads the journal in `directory` into `entries` and starts its thread. Blocks.
pub(super) fn open(directory: &Path, entries: &Arc<Entries>) -> Result<Journal, JournalError> {
    let lock_path = directory.join(LOCK);
    let lock = create(&lock_path).map_err(|error| JournalError::Io(lock_path.clone(), error))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(JournalError::InUse(lock_path)),
        Err(TryLockError::Error(error)) => return Err(JournalError::Io(lock_path, error)),
    }
    let path = directory.join(NAME);
    let failed = |error| JournalError::Io(path.clone(), error);
    let mut file = create(&path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    let (durable, records) = replay(&path, &bytes, entries)?;
    if durable < bytes.len() {
        let lost = bytes.len() - durable;
        tracing::warn!(
            path = %path.display(), bytes = lost, entries = records,
            "the journal of revocations ended inside a write that was never acknowledged; that end was cut off"
        );
        file.set_len(durable as u64).map_err(failed)?;
    }
    if durable == 0 {
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.write_all(HEADER).map_err(failed)?;
    }
    file.sync_all().and_then(|()| sync_directory(directory)).map_err(failed)?;
    let durable = durable.max(HEADER.len()) as u64;
    let state = Arc::new(State::default());
    state.bytes.store(durable, Ordering::Relaxed);
    state.records.store(records as u64, Ordering::Relaxed);
    let (orders, inbox) = sync_channel(QUEUE);
    let writer = Writer {
        directory: directory.to_owned(),
        file,
        durable,
        is_torn: false,
        state: Arc::clone(&state),
        entries: Arc::clone(entries),
        _lock: lock,
    };
    let thread = thread::Builder::new().name("claimgate-journal".to_owned());
    thread.spawn(move || writer.run(&inbox)).map_err(failed)?;
    Ok(Journal { orders, state })
}

/// Puts every record into `entries`; where the last whole frame ends, and how many records there were.
fn replay(path: &Path, bytes: &[u8], entries: &Entries) -> Result<(usize, usize), JournalError> {
    let Some(mut rest) = bytes.strip_prefix(HEADER) else {
        // The very first write may be torn too.
        return if HEADER.starts_with(bytes) { Ok((0, 0)) } else { Err(JournalError::Foreign(path.to_owned())) };
    };
    let mut records = 0;
    while !rest.is_empty() {
        let offset = bytes.len() - rest.len();
        match record::read(rest) {
            Frame::Whole(read, after) => {
                records += read.len();
                for (target, mark) in read {
                    entries.put(&target, mark);
                }
                rest = after;
            }
            Frame::Torn => return Ok((offset, records)),
            Frame::Damaged(what) => {
                return Err(JournalError::Damaged { path: path.to_owned(), offset, what, good: records });
            }
        }
    }
    Ok((bytes.len(), records))
}

// === impl Journal ===

impl Journal {
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// Asks for records to be made durable; `true` is the answer when they, and all that was asked for before, are.
    /// `None`: too many wait already. Never blocks.
    pub(super) fn append(&self, records: Vec<(Record, bool)>) -> Option<oneshot::Receiver<bool>> {
        let (done, answer) = oneshot::channel();
        match self.orders.try_send(Order::Append { records, done }) {
            // When the thread is gone the answer never comes, and whoever waits is told.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Some(answer),
            Err(TrySendError::Full(_)) => {
                self.state.is_behind.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Asks for a new file. Not now is soon enough.
    pub(super) fn compact(&self) {
        let _ = self.orders.try_send(Order::Compact);
    }
}

// === impl State ===

#[cfg(test)]
impl State {
    /// As after a failed write.
    pub(super) fn pretend_to_be_behind(&self) {
        self.is_behind.store(true, Ordering::Relaxed);
    }
}

// === impl Writer ===

impl Writer {
    fn run(mut self, inbox: &Receiver<Order>) {
        while let Ok(first) = inbox.recv() {
            let mut waiting = Vec::new();
            let mut records = Vec::new();
            let mut wants_new_file = false;
            let mut next = Some(first);
            while let Some(order) = next {
                match order {
                    Order::Compact => wants_new_file = true,
                    Order::Append { records: more, done } => {
                        records.extend(more);
                        waiting.push(done);
                    }
                }
                next = if waiting.len() < MOST_SHARED { inbox.try_recv().or_else(ended).ok() } else { None };
            }
            let written = self.append(&records);
            if let Err(error) = &written {
                self.fail("revocations cannot be written to the journal; they are in effect until a restart", error);
            }
            for done in waiting {
                // Whoever asked may be gone.
                let _ = done.send(written.is_ok());
            }
            if wants_new_file && let Err(error) = self.compact() {
                self.fail("the journal of revocations cannot be written anew; the old one stays in use", &error);
            }
        }
    }

    fn fail(&self, what: &str, error: &io::Error) {
        self.state.errors.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(NAME);
        tracing::error!(path = %path.display(), error = crate::state::describe_io(error), "{what}");
    }

    /// Durable when it returns `Ok`.
    fn append(&mut self, records: &[(Record, bool)]) -> io::Result<()> {
        let is_behind = self.state.is_behind.load(Ordering::Relaxed);
        let mut frames = Frames::default();
        for ((target, mark), is_new) in records {
            if *is_new || is_behind {
                frames.push(target, *mark);
            }
        }
        let written = self.try_append(frames);
        if written.is_err() {
            self.state.is_behind.store(true, Ordering::Relaxed);
        }
        written
    }

    fn try_append(&mut self, frames: Frames) -> io::Result<()> {
        if self.is_torn {
            self.cut()?;
        }
        let count = frames.records;
        for frame in frames.finish() {
            if let Err(error) = self.write(&frame) {
                self.is_torn = true;
                // Again before the next write, if it does not work now.
                let _ = self.cut();
                return Err(error);
            }
        }
        self.state.records.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.durable))?;
        self.file.write_all(frame)?;
        self.file.sync_data()?;
        self.durable += frame.len() as u64;
        self.state.bytes.store(self.durable, Ordering::Relaxed);
        Ok(())
    }

    /// Back to what is durable. What the system may have kept of a failed write goes with it.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.durable)?;
        self.file.sync_all()?;
        self.is_torn = false;
        Ok(())
    }

    /// A new file with one record for each entry that is in the old one and still means something.
    fn compact(&mut self) -> io::Result<()> {
        let mut old = Vec::new();
        self.file.seek(SeekFrom::Start(HEADER.len() as u64))?;
        (&self.file).take(self.durable - HEADER.len() as u64).read_to_end(&mut old)?;
        let mut kept = HashSet::new();
        let mut frames = Frames::default();
        let mut rest = old.as_slice();
        while !rest.is_empty() {
            // What was read at the start, or written since, and is neither now, must not be lost by copying around it.
            let Frame::Whole(records, after) = record::read(rest) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the old file is damaged"));
            };
            for (target, _) in records {
                let Some((digest, mark)) = self.entries.get(&target) else { continue };
                if kept.insert((target.kind(), digest)) {
                    frames.push(&target, mark);
                }
            }
            rest = after;
        }
        let count = frames.records;
        let path = self.directory.join(NEW);
        // What an earlier attempt left behind.
        if let Err(error) = std::fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut new = create(&path)?;
        let mut length = HEADER.len() as u64;
        new.write_all(HEADER)?;
        for frame in frames.finish() {
            new.write_all(&frame)?;
            length += frame.len() as u64;
        }
        new.sync_all()?;
        std::fs::rename(&path, self.directory.join(NAME))?;
        let before = self.durable;
        // From here on this is the journal, whatever becomes of the directory.
        self.file = new;
        self.durable = length;
        self.is_torn = false;
        self.state.bytes.store(length, Ordering::Relaxed);
        self.state.records.store(count, Ordering::Relaxed);
        sync_directory(&self.directory)?;
        tracing::info!(entries = count, bytes = length, before, "the journal of revocations was written anew");
        Ok(())
    }
}

/// Records on their way into frames.
#[derive(Default)]
struct Frames {
    done: Vec<Vec<u8>>,
    open: Vec<u8>,
    records: u64,
}

impl Frames {
    fn push(&mut self, target: &crate::token::Target, mark: crate::token::Mark) {
        record::push(&mut self.open, target, mark);
        self.records += 1;
        if self.open.len() >= LONGEST_FRAME {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done.push(record::frame(&self.open));
            self.open.clear();
        }
    }

    fn finish(mut self) -> Vec<Vec<u8>> {
        self.close();
        self.done
    }
}

/// Nothing more waits, for now or for good.
fn ended(_: TryRecvError) -> Result<Order, ()> {
    Err(())
}

/// Opens a file of ours (mode 0600), and makes it when it is missing.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{Mark, Target};

    fn record(id: &str) -> Record {
        let target = Target::Token { issuer: "i".to_owned(), id: id.to_owned() };
        (target, Mark { epoch: Mark::ALWAYS, since: 1, until: 0 })
    }

    #[test]
    fn after_a_failed_write_the_file_is_as_before_and_what_failed_is_written_when_said_again() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(NAME);
        std::fs::write(&path, HEADER).unwrap();
        let state = Arc::new(State::default());
        let mut writer = Writer {
            directory: home.path().to_owned(),
            file: create(&path).unwrap(),
            durable: HEADER.len() as u64,
            is_torn: false,
            state: Arc::clone(&state),
            entries: Arc::new(Entries::new()),
            _lock: create(&home.path().join(LOCK)).unwrap(),
        };
        writer.append(&[(record("a"), true)]).unwrap();
        let before = std::fs::read(&path).unwrap();

        // A disk that takes nothing.
        let good = std::mem::replace(&mut writer.file, File::open(&path).unwrap());
        assert!(writer.append(&[(record("b"), true)]).is_err());
        assert!(writer.is_torn && state.is_behind.load(Ordering::Relaxed));
        assert!(writer.append(&[(record("b"), false)]).is_err(), "nothing is written after what may be half a frame");
        assert_eq!(std::fs::read(&path).unwrap(), before);

        // Half a frame got there, and the disk works again.
        writer.file = good;
        std::fs::write(&path, [before.as_slice(), b"half"].concat()).unwrap();
        writer.append(&[(record("b"), false), (record("a"), false)]).unwrap();
        let entries = Entries::new();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(replay(&path, &bytes, &entries).unwrap(), (bytes.len(), 3));
        assert!(entries.get(&record("b").0).is_some());
        assert_eq!(state.records.load(Ordering::Relaxed), 3);
    }
}
