//! Tokens that name keys which are not there: what that costs the issuer, and who waits for what.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_flood_of_unknown_key_ids_costs_one_fetch_per_cooldown_whatever_comes_of_it() {
    let cooldown = FetchSettings::default().unknown_kid_cooldown;
    let good = key_set(&["a"]);
    let empty = br#"{"keys":[]}"#.to_vec();
    for answer in [Ok(body(&good)), Ok(body(&empty)), Ok(body(b"<html>")), Err(DOWN)] {
        let mut rig = Rig::new(move |_| answer.clone());
        rig.next().await;
        rig.during(2 * MINUTE).await;
        let mut forced = 0;
        let mut suppressed = 0;
        let begin = Instant::now();
        while begin.elapsed() < cooldown + SECOND {
            let _unheard = rig.want().await;
            for update in rig.during(SECOND / 10).await {
                (forced, suppressed) = (update.health.forced_refreshes, update.health.suppressed_refreshes);
            }
        }
        assert!((1..=2).contains(&forced), "{forced} forced fetches in one cooldown and a second");
        assert!(suppressed > 200, "{suppressed} were suppressed");
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_id_that_was_just_not_there_does_not_cause_the_next_fetch() {
    let cooldown = FetchSettings::default().unknown_kid_cooldown;
    // Fresh for an hour, so that every other fetch is a forced one.
    let fresh = |kids: &[&str]| Answer::Body { bytes: key_set(kids), etag: None, max_age: Some(HOUR) };
    let mut rig = Rig::new(always(fresh(&["a"])));
    rig.next().await;
    // Forty minutes of a client that never stops, in steps of half a cooldown.
    let mut answers = Vec::new();
    let mut last = KeyHealth::default();
    for _ in 0..160 {
        answers.push(rig.want_key(Some("gone")).await);
        if let Some(update) = rig.during(cooldown / 2).await.pop() {
            last = update.health;
        }
    }
    let forced = rig.times().len() - 1;
    assert_eq!(u64::try_from(forced).unwrap(), last.forced_refreshes);
    assert!((6..=12).contains(&forced), "{forced} fetches: the time for which it is left alone grows to five minutes");
    assert_eq!(last.negative_hits + last.suppressed_refreshes + last.forced_refreshes, 160);
    assert!(last.negative_hits > 140, "{last:?}");
    // Meanwhile another key is found at once, and so is this one, when a fetch for the other brings it.
    rig.answer(always(fresh(&["a", "gone", "new"])));
    rig.want_key(Some("new")).await;
    assert_eq!(keys_of(&rig.next().await.change), 3);
    for answer in answers {
        assert_ne!(answer.await, Ok(true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_comes_into_being_after_its_first_token_is_found_within_a_cooldown() {
    let cooldown = FetchSettings::default().unknown_kid_cooldown;
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    rig.want_key(Some("b")).await;
    assert!(matches!(rig.next().await.change, KeyChange::Same));
    rig.answer(always(body(&key_set(&["b"]))));
    tokio::time::sleep(cooldown).await;
    rig.want_key(Some("b")).await;
    assert_eq!(keys_of(&rig.next().await.change), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failed_fetch_says_nothing_about_a_key() {
    let cooldown = FetchSettings::default().unknown_kid_cooldown;
    let mut rig = Rig::new(is_down);
    rig.next().await;
    rig.want_key(Some("a")).await;
    tokio::time::sleep(cooldown).await;
    rig.during(SECOND).await;
    rig.answer(always(body(&key_set(&["a"]))));
    rig.want_key(Some("a")).await;
    let update = rig.next().await;
    assert_eq!((keys_of(&update.change), update.health.negative_hits), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn everybody_who_waits_for_a_key_shares_one_fetch() {
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    rig.answer(always(body(&key_set(&["b"]))));
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(rig.want().await);
    }
    let update = rig.next().await;
    assert_eq!(keys_of(&update.change), 1);
    assert_eq!(update.waiters.len(), 100);
    assert_eq!(rig.times().len(), 2);
    for waiter in update.waiters {
        waiter.send(true).unwrap();
    }
    for answer in answers {
        assert!(answer.await.unwrap());
    }
    assert!(rig.want().await.await.unwrap(), "who asks right after the change took an old snapshot");
    tokio::time::sleep(JUST_CHANGED).await;
    assert!(!rig.want().await.await.unwrap(), "who asks later has seen the keys that there are");
}

#[tokio::test(start_paused = true)]
async fn no_more_waiters_are_kept_than_a_bound() {
    let mut rig = Rig::new(always(body(&key_set(&["a"]))));
    rig.next().await;
    let mut answers = Vec::new();
    for _ in 0..MAX_WAITERS + 10 {
        answers.push(rig.want().await);
    }
    assert_eq!(rig.next().await.waiters.len(), MAX_WAITERS);
    assert!(answers.pop().unwrap().await.is_err(), "the last ones are answered at once");
}
