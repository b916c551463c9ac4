//! The set against a model that keeps every entry and asks all of them.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const NOW: UnixTime = UnixTime(1_000);
const RETENTION: Duration = Duration::from_secs(100);

fn target() -> impl Strategy<Value = Target> {
    let name = || prop_oneof![Just("a"), Just("b"), Just("ab"), Just("")].prop_map(str::to_owned);
    (0..RevocationKind::ALL.len(), name(), name())
        .prop_map(|(kind, issuer, value)| Target::from_parts(RevocationKind::ALL[kind], issuer, value))
}

fn entry() -> impl Strategy<Value = Revocation> {
    let time = || proptest::option::of(900_i64..1_100);
    (target(), time(), time()).prop_map(|(target, valid_after, expires_at)| Revocation {
        target,
        valid_after,
        expires_at,
    })
}

/// Does one entry, alone, refuse a token that was issued then?
fn refuses(entry: &Revocation, issued_at: Option<i64>, now: i64) -> bool {
    let is_token = entry.target.kind() == RevocationKind::Token;
    let is_dead = !is_token && entry.expires_at.is_none() && entry.valid_after.is_some_and(|epoch| epoch + 100 <= now);
    entry.expires_at.is_none_or(|end| now < end)
        && !is_dead
        && (is_token || entry.valid_after.is_none_or(|epoch| issued_at.is_none_or(|issued_at| issued_at <= epoch)))
}

proptest! {
    #[test]
    fn nothing_that_an_entry_refuses_gets_past_the_set(
        entries in proptest::collection::vec(entry(), 0..30), asked in target(),
        issued_at in proptest::option::of(850_i64..1_150), later in 0_i64..90,
    ) {
        let mut set = RevocationSet::new(RevocationKey::random());
        for entry in &entries {
            set.insert(entry, NOW);
        }
        let now = UnixTime(NOW.0 + later);
        set.purge(now, RETENTION);
        let mark = set.get(asked.kind(), &set.key.digest_of(&asked));
        let about: Vec<&Revocation> = entries.iter().filter(|entry| {
            // A tenant has no issuer, an issuer no value.
            entry.target.parts() == asked.parts() || entry.target == asked
        }).collect();
        let expected = about.iter().any(|entry| refuses(entry, issued_at, now.0));
        let found = mark.is_some_and(|mark| mark.hits(issued_at, now));
        // Joining may refuse for longer, never for less, and never what no entry is about.
        prop_assert!(found || !expected);
        prop_assert!(!found || !about.is_empty());
        if about.len() == 1 {
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn the_order_does_not_matter_and_saying_it_twice_says_it_once(
        entries in proptest::collection::vec(entry(), 0..20), swaps in proptest::collection::vec((0_usize..20, 0_usize..20), 0..20),
    ) {
        let key = RevocationKey::random();
        let (mut one, mut other) = (RevocationSet::new(key), RevocationSet::new(key));
        let mut shuffled = entries.clone();
        for (a, b) in swaps {
            if a < shuffled.len() && b < shuffled.len() { shuffled.swap(a, b); }
        }
        for entry in &entries { one.insert(entry, NOW); }
        for entry in &shuffled { other.insert(entry, NOW); }
        for entry in &shuffled { prop_assert!(!other.insert(entry, NOW)); }
        let names: HashSet<_> = entries.iter().map(|entry| entry.target.parts()).collect();
        prop_assert_eq!(one.len(), names.len());
        for entry in &entries {
            let digest = key.digest_of(&entry.target);
            let (one, other) = (one.get(entry.target.kind(), &digest).unwrap(), other.get(entry.target.kind(), &digest).unwrap());
            prop_assert_eq!((one.epoch, one.until), (other.epoch, other.until));
            for later in [0, 50, 99, 200, 300] {
                prop_assert_eq!(one.is_over(UnixTime(NOW.0 + later), RETENTION), other.is_over(UnixTime(NOW.0 + later), RETENTION));
            }
        }
    }

    #[test]
    fn an_epoch_never_goes_back(first in 1_i64..4_000_000_000, second in 1_i64..4_000_000_000) {
        let mut set = RevocationSet::new(RevocationKey::random());
        let target = Target::Issuer { issuer: "i".to_owned() };
        for epoch in [first, second] {
            set.insert(&Revocation { target: target.clone(), valid_after: Some(epoch), expires_at: None }, NOW);
        }
        let mark = set.get(RevocationKind::Issuer, &set.key.digest_of(&target)).unwrap();
        prop_assert_eq!(i64::from(mark.epoch), first.max(second));
    }
}

#[test]
fn an_entry_lives_until_no_token_that_it_hits_can_be_valid() {
    let check = |valid_after: Option<i64>, expires_at: Option<i64>, kind, last: Option<i64>| {
        let target = Target::from_parts(kind, "i".to_owned(), "v".to_owned());
        let mark = Mark::of(&Revocation { target, valid_after, expires_at }, NOW);
        match last {
            Some(last) => {
                assert!(!mark.is_over(UnixTime(last), RETENTION), "{mark:?}");
                assert!(mark.is_over(UnixTime(last + 1), RETENTION), "{mark:?}");
            }
            None => assert!(!mark.is_over(UnixTime(i64::MAX), RETENTION), "{mark:?}"),
        }
    };
    check(None, None, RevocationKind::Token, Some(1_099));
    check(None, Some(1_010), RevocationKind::Token, Some(1_009));
    // An epoch counts from its own time: what was issued before is dead by then.
    check(Some(500), None, RevocationKind::Subject, Some(599));
    check(Some(1_050), None, RevocationKind::Subject, Some(1_149));
    check(Some(1_000), Some(5_000), RevocationKind::Subject, Some(4_999));
    check(None, None, RevocationKind::Key, None);
    check(None, Some(2_000), RevocationKind::Key, Some(1_999));
}

#[test]
fn names_are_told_apart_by_their_parts() {
    let key = RevocationKey::random();
    let names = [("", ""), ("a", ""), ("", "a"), ("ab", "c"), ("a", "bc"), ("abc", ""), ("", "abc")];
    let mut digests = HashSet::new();
    for kind in RevocationKind::ALL {
        for (issuer, value) in names {
            assert!(digests.insert(key.digest(kind, issuer, value).0), "{kind:?} {issuer} {value}");
        }
    }
    let other = RevocationKey::random();
    assert_ne!(key.digest(RevocationKind::Token, "a", "b"), other.digest(RevocationKind::Token, "a", "b"));
}

#[test]
fn the_bytes_are_those_of_the_tables() {
    let mut set = RevocationSet::new(RevocationKey::random());
    let empty = set.bytes();
    for number in 0..1_000 {
        let target = Target::Token { issuer: "i".to_owned(), id: number.to_string() };
        set.insert(&Revocation { target, valid_after: None, expires_at: None }, NOW);
    }
    // 2,048 slots of 29 bytes.
    assert_eq!(set.bytes() - empty, 2_048 * 29);
    assert_eq!(set.purge(UnixTime(2_000), RETENTION), 1_000);
    assert!(set.is_empty() && set.bytes() - empty < 2_048 * 29);
}
