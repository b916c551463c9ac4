//! Ages with made-up times, bounds, and who asks when many do.

use std::{sync::mpsc, thread};

use super::*;

const SECOND: u64 = 1_000_000_000;
/// 1994-11-06 08:49:37 GMT.
const NOW: u64 = 784_111_777 * SECOND;
const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT";
const HEADERS: HttpCaching = HttpCaching { force: None };

fn response(status_code: u16, headers: &[&str], body: &str) -> HttpResponse {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), vec![value.to_owned()])
    };
    HttpResponse {
        status: status_code.to_string(),
        status_code,
        headers: headers.iter().map(pair).collect(),
        body: body.as_bytes().to_vec(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// For how many seconds an answer is good; `None`: not kept.
fn check(status: u16, headers: &[&str], force: Option<u64>, want: Option<i64>) {
    let caching = HttpCaching { force: force.map(Duration::from_secs) };
    let entry = Entry::new(response(status, headers, ""), caching, NOW);
    let got = entry.expires_ns.map(|ns| i64::try_from(ns / SECOND).unwrap() - i64::try_from(NOW / SECOND).unwrap());
    assert_eq!(got.map(|left| left.max(0)), want, "{status} {headers:?} {force:?}");
}

#[test]
fn answers_are_good_for_as_long_as_their_headers_say() {
    let later = "expires: Sun, 06 Nov 1994 08:50:37 GMT";
    check(200, &["cache-control: max-age=60", DATE], None, Some(60));
    check(200, &["cache-control: public, Max-Age=60", DATE], None, Some(60));
    check(200, &["cache-control: max-age=60", "date: Sun, 06 Nov 1994 08:49:07 GMT"], None, Some(30));
    check(200, &["cache-control: max-age=60", "date: Sun, 06 Nov 1994 09:49:37 GMT"], None, Some(60));
    check(200, &["cache-control: max-age=99999999999999999999", DATE], None, Some(i64::from(i32::MAX)));
    check(200, &["cache-control: max-age=-1", DATE], None, None);
    check(200, &["cache-control: max-age=60"], None, None);
    check(200, &["cache-control: no-store, max-age=60", DATE], None, None);
    check(200, &["cache-control: no-cache, max-age=60", DATE], None, Some(0));
    check(200, &[later], None, Some(60));
    check(200, &["expires: 0"], None, Some(0));
    check(200, &["cache-control: max-age=5", DATE, later], None, Some(5));
    check(200, &[], None, Some(0));
    check(404, &[later], None, Some(60));
    for status in [201, 302, 400, 401, 403, 429, 500, 503] {
        check(status, &[later], None, None);
        check(status, &[later], Some(60), None);
    }
    check(200, &["cache-control: no-store"], Some(60), Some(60));
    check(200, &[later], Some(5), Some(5));
}

#[test]
fn an_old_answer_is_handed_to_who_asks_whether_it_is_still_right() {
    let cache = Cache::new(1 << 20);
    let first = response(200, &["cache-control: max-age=60", DATE, "etag: \"1\""], "one");
    let Entered::First { stale: None, flight } = cache.enter("k", NOW, soon()) else { panic!() };
    flight.land(Ok(Entry::new(first, HEADERS, NOW))).unwrap();
    assert!(matches!(cache.enter("k", NOW + 59 * SECOND, soon()), Entered::Fresh(r) if r.body == b"one"));

    let later = NOW + 60 * SECOND;
    let Entered::First { stale: Some(stale), flight } = cache.enter("k", later, soon()) else { panic!() };
    assert_eq!(Validators::of(&stale.response).unwrap().etag.as_deref(), Some("\"1\""));
    let date = "date: Sun, 06 Nov 1994 08:50:37 GMT";
    let confirmed = stale.confirmed(response(304, &["cache-control: max-age=5", date], ""), HEADERS, later);
    let answer = flight.land(Ok(confirmed)).unwrap();
    assert_eq!((answer.status_code, answer.body.as_slice()), (200, b"one".as_slice()));
    assert!(answer.headers.contains(&("cache-control".into(), vec!["max-age=5".into()])), "{answer:?}");
    assert!(answer.headers.contains(&("etag".into(), vec!["\"1\"".into()])), "{answer:?}");
    assert!(matches!(cache.enter("k", later + 4 * SECOND, soon()), Entered::Fresh(_)));
    assert!(matches!(cache.enter("k", later + 5 * SECOND, soon()), Entered::First { .. }));
}

#[test]
fn the_store_is_bounded_and_the_oldest_goes_first() {
    let force = HttpCaching { force: Some(Duration::from_secs(60)) };
    let cache = Cache::new(10_000);
    let put = |key: &str, size: usize| {
        if let Entered::First { flight, .. } = cache.enter(key, NOW, soon()) {
            flight.land(Ok(Entry::new(response(200, &[], &"x".repeat(size)), force, NOW))).unwrap();
        }
    };
    let has = |key: &str| cache.lock().entries.contains_key(key);
    for key in ["a", "b", "c"] {
        put(key, 3_000);
    }
    assert!(has("a") && has("b") && has("c"));
    put("d", 3_000);
    assert!(!has("a") && has("b") && has("d"));
    put("e", 20_000);
    assert!(!has("e") && has("b"));
    for round in 0..1_000 {
        put(&format!("k{round}"), 10);
        let state = cache.lock();
        assert!(state.bytes <= 10_000 && state.order.len() <= 100 && state.flights.is_empty());
    }
}

/// Some threads ask while one request is under way; what each of them gets.
fn many(landing: impl FnOnce(Flight<'_>), end: Instant) -> Vec<&'static str> {
    let cache = Cache::new(1 << 20);
    let Entered::First { flight, .. } = cache.enter("k", NOW, soon()) else { panic!() };
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..8 {
            let (cache, sender) = (&cache, sender.clone());
            scope.spawn(move || {
                let got = match cache.enter("k", NOW, end) {
                    Entered::Fresh(_) => "fresh",
                    Entered::First { .. } => "first",
                    Entered::Failed(_) => "failed",
                    Entered::Alone => "alone",
                    Entered::Abandoned => "abandoned",
                    Entered::Late => "late",
                };
                sender.send(got).unwrap();
            });
        }
        // Whoever has the board waits or will find it landed.
        while Arc::strong_count(&flight.board) < 10 {
            if end < Instant::now() {
                break;
            }
            thread::yield_now();
        }
        landing(flight);
        drop(sender);
        receiver.iter().collect()
    })
}

#[test]
fn one_asks_and_the_others_share_what_may_be_shared() {
    let kept = || Entry::new(response(200, &["cache-control: max-age=60", DATE], ""), HEADERS, NOW);
    assert_eq!(many(|f| drop(f.land(Ok(kept()))), soon()), ["fresh"; 8]);
    let private = || Entry::new(response(200, &["cache-control: no-store"], ""), HEADERS, NOW);
    assert_eq!(many(|f| drop(f.land(Ok(private()))), soon()), ["alone"; 8]);
    let failed = || Err(HttpError::Failed("x".to_owned()));
    assert_eq!(many(|f| drop(f.land(failed())), soon()), ["failed"; 8]);
    assert_eq!(many(|f| drop(f.land(Err(HttpError::Deadline))), soon()), ["abandoned"; 8]);
    assert_eq!(many(|flight| drop(flight), soon()), ["abandoned"; 8]);
}

#[test]
fn nobody_waits_longer_than_their_deadline() {
    let cache = Cache::new(1 << 20);
    let Entered::First { flight, .. } = cache.enter("k", NOW, soon()) else { panic!() };
    assert!(matches!(cache.enter("k", NOW, Instant::now() + Duration::from_millis(20)), Entered::Late));
    drop(flight);
    assert!(matches!(cache.enter("k", NOW, soon()), Entered::First { .. }));
}
