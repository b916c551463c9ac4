//! The store against its journal: what is acknowledged is found again, whatever the file looks like afterwards.

use std::{
    fs,
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{record::HEADER, *};
use crate::token::{Mark, Target};

const FOREVER: Duration = Duration::from_secs(1 << 32);

fn open(directory: &Path) -> Result<Store, JournalError> {
    // A store that was just dropped lets go of its lock when its thread has ended.
    let began = std::time::Instant::now();
    loop {
        match Store::open(&Settings { directory: Some(directory.to_owned()), ..Settings::default() }) {
            Err(JournalError::InUse(_)) if began.elapsed() < Duration::from_secs(20) => std::thread::yield_now(),
            other => return other,
        }
    }
}

fn journal(directory: &Path) -> PathBuf {
    directory.join("revocations.journal")
}

fn revoke(store: &Store, entries: Vec<Revocation>) -> Result<Accepted, RevokeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.revoke(entries, Source::Operator))
}

fn token(id: &str) -> Revocation {
    let target = Target::Token { issuer: "https://idp.example".to_owned(), id: id.to_owned() };
    Revocation { target, valid_after: None, expires_at: None }
}

fn subject(subject: &str, valid_after: i64) -> Revocation {
    let target = Target::Subject { issuer: "https://idp.example".to_owned(), subject: subject.to_owned() };
    Revocation { target, valid_after: Some(valid_after), expires_at: None }
}

fn mark(store: &Store, entry: &Revocation) -> Option<Mark> {
    store.entries.get(&entry.target).map(|(_, mark)| mark)
}

/// A directory with three acknowledged frames in its journal, and where each ends.
fn three_frames() -> (TempDir, Vec<u8>, Vec<usize>) {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    let mut ends = Vec::new();
    for entries in [vec![token("a")], vec![subject("alice", 1_790_000_000), token("b")], vec![token("c")]] {
        assert!(revoke(&store, entries).unwrap().persisted);
        ends.push(fs::metadata(journal(home.path())).unwrap().len().try_into().unwrap());
    }
    drop(store);
    let bytes = fs::read(journal(home.path())).unwrap();
    (home, bytes, ends)
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let (home, ..) = three_frames();
    let store = open(home.path()).unwrap();
    assert_eq!(store.report().entries.values().sum::<usize>(), 4);
    assert_eq!(mark(&store, &subject("alice", 0)).unwrap().epoch, 1_790_000_000);
    let again = revoke(&store, vec![token("a"), subject("alice", 1_780_000_000)]).unwrap();
    assert_eq!(again, Accepted { accepted: 2, new: 0, persisted: true });
    assert_eq!(mark(&store, &subject("alice", 0)).unwrap().epoch, 1_790_000_000, "an older epoch changes nothing");
}

#[test]
fn a_write_torn_at_any_byte_loses_nothing_that_was_acknowledged_before() {
    let (home, bytes, ends) = three_frames();
    let (before, end) = (ends[1], ends[2]);
    for cut in before..end {
        fs::write(journal(home.path()), &bytes[..cut]).unwrap();
        let store = open(home.path()).unwrap();
        assert_eq!(store.report().entries.values().sum::<usize>(), 3, "cut at {cut}");
        assert_eq!(store.report().journal.unwrap().bytes, before as u64);
        // The next write goes where the torn one was.
        assert!(revoke(&store, vec![token("d")]).unwrap().persisted);
        drop(store);
        let store = open(home.path()).unwrap();
        assert!(mark(&store, &token("d")).is_some() && mark(&store, &token("c")).is_none(), "cut at {cut}");
    }
}

#[test]
fn damage_before_the_end_is_loud_and_nothing_starts() {
    let (home, bytes, ends) = three_frames();
    for at in HEADER.len()..ends[1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(journal(home.path()), &damaged).unwrap();
        match open(home.path()) {
            Err(JournalError::Damaged { offset, good, .. }) => {
                let want = if at < ends[0] { (HEADER.len(), 0) } else { (ends[0], 1) };
                assert_eq!((offset, good), want, "{at}");
            }
            other => panic!("damage at {at}: {other:?}"),
        }
        assert_eq!(fs::read(journal(home.path())).unwrap(), damaged, "the file is as it was");
    }
    // A length that was changed where nothing follows contradicts itself too.
    let mut damaged = bytes;
    damaged[ends[1]] ^= 1;
    fs::write(journal(home.path()), &damaged).unwrap();
    assert!(matches!(open(home.path()), Err(JournalError::Damaged { good: 3, .. })));
}

#[test]
fn a_file_of_another_kind_or_version_is_not_touched() {
    let home = tempfile::tempdir().unwrap();
    for content in [&b"claimgate revocations 2\nxxxx"[..], b"something else", b"{}"] {
        fs::write(journal(home.path()), content).unwrap();
        assert!(matches!(open(home.path()), Err(JournalError::Foreign(_))));
        assert_eq!(fs::read(journal(home.path())).unwrap(), content);
    }
    // A header that was never finished was never followed by anything.
    for end in 0..HEADER.len() {
        fs::write(journal(home.path()), &HEADER[..end]).unwrap();
        assert!(open(home.path()).unwrap().report().entries.values().all(|count| *count == 0));
        assert_eq!(fs::read(journal(home.path())).unwrap(), HEADER);
    }
}

#[test]
fn two_stores_cannot_share_a_directory() {
    let home = tempfile::tempdir().unwrap();
    let _first = open(home.path()).unwrap();
    let second = Store::open(&Settings { directory: Some(home.path().to_owned()), ..Settings::default() });
    assert!(matches!(second, Err(JournalError::InUse(_))));
}

#[test]
fn a_journal_of_outdated_records_is_written_anew_and_says_the_same() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    let epochs = (0..3_000).map(|later| subject("alice", 1_790_000_000 + later));
    revoke(&store, epochs.chain([subject("bob", 1_790_000_000)]).collect()).unwrap();
    let expiring = Revocation { expires_at: Some(1_790_000_001), ..token("short") };
    revoke(&store, vec![expiring.clone(), token("kept")]).unwrap();
    let before = store.report().journal.unwrap();
    assert_eq!(before.records, 3_003);
    store.tidy(UnixTime(1_790_000_002), FOREVER);
    // The order may be carried out together with the first of these, and is before the second.
    revoke(&store, vec![token("after")]).unwrap();
    revoke(&store, vec![token("later")]).unwrap();
    let after = store.report().journal.unwrap();
    assert_eq!((after.records, after.errors), (5, 0));
    assert!(after.bytes < 400 && after.bytes == fs::metadata(journal(home.path())).unwrap().len());
    let marks = |store: &Store| {
        [subject("alice", 0), subject("bob", 0), token("kept"), token("after"), expiring.clone()]
            .map(|entry| mark(store, &entry))
    };
    let expected = marks(&store);
    assert_eq!(expected[0].unwrap().epoch, 1_790_002_999);
    assert_eq!(expected[4], None);
    drop(store);
    assert_eq!(marks(&open(home.path()).unwrap()), expected);
}

#[test]
fn what_the_disk_refused_is_in_effect_and_is_written_when_it_is_said_again() {
    let home = tempfile::tempdir().unwrap();
    let store = open(home.path()).unwrap();
    revoke(&store, vec![token("a")]).unwrap();
    // The entry is in memory only, as after a failed write.
    let journal = store.journal.as_ref().unwrap();
    journal.state().pretend_to_be_behind();
    store.entries.insert(&token("b"), UnixTime(1));
    assert_eq!(revoke(&store, vec![token("b")]).unwrap(), Accepted { accepted: 1, new: 0, persisted: true });
    drop(store);
    assert!(mark(&open(home.path()).unwrap(), &token("b")).is_some());
}

#[test]
fn a_store_takes_no_more_than_its_bound_and_no_endless_names() {
    let store = Store::in_memory(2);
    assert_eq!(revoke(&store, vec![token("a"), token("b")]).unwrap().new, 2);
    assert_eq!(revoke(&store, vec![token("c")]), Err(RevokeError::Full { limit: 2 }));
    assert!(mark(&store, &token("c")).is_none());
    assert_eq!(revoke(&store, vec![token("a"), token("b")]).unwrap().new, 0, "saying it again needs no room");
    let endless = "x".repeat(LONGEST_NAME + 1);
    assert_eq!(revoke(&Store::in_memory(2), vec![token(&endless)]), Err(RevokeError::NameTooLong));
}

fn step() -> impl Strategy<Value = (Revocation, bool)> {
    let entry = (0..4_usize, 0..7_usize, proptest::option::of(1_790_000_000_i64..1_790_000_100), any::<bool>());
    let entry = entry.prop_map(|(name, kind, valid_after, ends)| Revocation {
        target: Target::from_parts(RevocationKind::ALL[kind], "i".to_owned(), name.to_string()),
        valid_after,
        expires_at: ends.then_some(2_000_000_000),
    });
    (entry, proptest::bool::weighted(0.1))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_store_says_what_a_set_says_also_after_restarts_and_new_files(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let home = tempfile::tempdir().unwrap();
        let mut store = open(home.path()).unwrap();
        let model = Entries::new();
        for (entry, restarts) in &steps {
            let now = UnixTime::from(SystemTime::now());
            revoke(&store, vec![entry.clone()]).unwrap();
            model.insert(entry, now);
            if *restarts {
                store.journal.as_ref().unwrap().compact();
                drop(store);
                store = open(home.path()).unwrap();
            }
            for (entry, _) in &steps {
                let got = mark(&store, entry);
                let want = model.get(&entry.target).map(|(_, mark)| mark);
                // The time of arrival is the clock's.
                prop_assert_eq!(got.map(|mark| (mark.epoch, mark.until, mark.since > 0)), want.map(|mark| (mark.epoch, mark.until, mark.since > 0)));
            }
            prop_assert_eq!(store.entries.len(), model.len());
        }
    }
}
