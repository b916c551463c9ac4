//! Time as an argument, and the dates that a token claims. Nothing here reads a clock.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::error::TokenError;

/// Seconds since the Unix epoch. Time is always an argument here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixTime(pub i64);

/// A `NumericDate` of RFC 7519: an integer or a finite fraction, not negative, not above 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NumericDate {
    /// Rounded down: an expiry comes no later than claimed.
    floor: i64,
    /// Rounded up: a beginning comes no earlier than claimed.
    ceil: i64,
}

/// The three dates of a token, each of a valid type. Whether they hold is asked anew for each request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    expires: NumericDate,
    not_before: Option<NumericDate>,
    issued: Option<NumericDate>,
}

/// What a profile allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeRules {
    pub(super) leeway: Duration,
    pub(super) max_lifetime: Duration,
    /// `None`: of any age.
    pub(super) max_age: Option<Duration>,
}

/// The last date whose every whole second an IEEE double can hold; also far above any honest expiry.
const LAST_DATE: i64 = 1 << 53;

// === impl Times ===

impl Times {
    /// Reads `exp`, which is mandatory, `nbf` and `iat`.
    pub(super) fn read(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let expires = date(claims, "exp")?.ok_or(TokenError::ExpiryMissing)?;
        Ok(Self { expires, not_before: date(claims, "nbf")?, issued: date(claims, "iat")? })
    }

    /// Holds the dates against `now`.
    ///
    /// A token is expired from `exp + leeway` on (RFC 7519 §4.1.4: "on or after"). `nbf` and `iat` may lie at most
    /// `leeway` in the future. The lifetime is `exp - iat`, or `exp - now` when there is no `iat`. Where the age is
    /// limited, a token is too old from `iat + max_age + leeway` on, and one that does not tell its age is refused.
    pub(super) fn check(self, rules: TimeRules, now: UnixTime) -> Result<(), TokenError> {
        let Self { expires, not_before, issued } = self;
        let leeway = seconds(rules.leeway);
        if now.0 >= expires.floor.saturating_add(leeway) {
            return Err(TokenError::Expired { expires_at: expires.floor, now: now.0, leeway });
        }
        let latest_beginning = now.0.saturating_add(leeway);
        if let Some(not_before) = not_before.filter(|date| date.ceil > latest_beginning) {
            return Err(TokenError::NotYetValid { not_before: not_before.ceil, now: now.0, leeway });
        }
        if let Some(issued) = issued.filter(|date| date.ceil > latest_beginning) {
            return Err(TokenError::IssuedInFuture { issued_at: issued.ceil, now: now.0, leeway });
        }
        if let Some(issued) = issued.filter(|date| date.floor > expires.floor) {
            return Err(TokenError::IssuedAfterExpiry { issued_at: issued.floor, expires_at: expires.floor });
        }
        let lifetime = expires.ceil.saturating_sub(issued.map_or(now.0, |date| date.floor));
        let limit = seconds(rules.max_lifetime);
        if lifetime > limit {
            return Err(TokenError::LifetimeTooLong { seconds: lifetime, limit });
        }
        if let Some(limit) = rules.max_age.map(seconds) {
            let issued = issued.ok_or(TokenError::IssuedAtMissing)?;
            let age = now.0.saturating_sub(issued.floor);
            if age >= limit.saturating_add(leeway) {
                return Err(TokenError::TooOld { age, limit, leeway });
            }
        }
        Ok(())
    }

    /// A statement that was made for us just now: `iat` is there, at most `age` and the leeway old, and not ahead of the
    /// clock by more than the leeway; `exp`, where there is one, has not come.
    pub(super) fn check_made_now(
        claims: &Map<String, Value>,
        leeway: Duration,
        age: Duration,
        now: UnixTime,
    ) -> Result<(), TokenError> {
        let leeway = seconds(leeway);
        let issued = date(claims, "iat")?.ok_or(TokenError::DateMalformed { claim: "iat" })?;
        if issued.ceil > now.0.saturating_add(leeway) {
            return Err(TokenError::IssuedInFuture { issued_at: issued.ceil, now: now.0, leeway });
        }
        let expires = issued.floor.saturating_add(seconds(age));
        let expires = date(claims, "exp")?.map_or(expires, |date| date.floor.min(expires));
        if now.0 >= expires.saturating_add(leeway) {
            return Err(TokenError::Expired { expires_at: expires, now: now.0, leeway });
        }
        Ok(())
    }

    /// The dates beside what they were held against, for a person to read.
    pub(super) fn shown(self, rules: TimeRules, now: UnixTime) -> String {
        let ago = |date: Option<NumericDate>, floor: fn(NumericDate) -> i64| {
            date.map_or_else(
                || "absent".to_owned(),
                |date| {
                    let date = floor(date);
                    format!("{date}, {} s ago", now.0.saturating_sub(date))
                },
            )
        };
        let expires = self.expires.floor;
        let lifetime = self.expires.ceil.saturating_sub(self.issued.map_or(now.0, |date| date.floor));
        let age = rules.max_age.map_or_else(String::new, |age| format!(", age at most {} s", age.as_secs()));
        format!(
            "now is {}, leeway {} s; `exp` is {expires}, in {} s; `nbf` is {}; `iat` is {}; lifetime {lifetime} s of at \
             most {} s{age}",
            now.0,
            rules.leeway.as_secs(),
            expires.saturating_sub(now.0),
            ago(self.not_before, |date| date.ceil),
            ago(self.issued, |date| date.floor),
            rules.max_lifetime.as_secs()
        )
    }

    /// Is there such a date, and of a valid type?
    pub(super) fn is_date(claims: &Map<String, Value>, claim: &'static str) -> bool {
        matches!(date(claims, claim), Ok(Some(_)))
    }

    /// `exp` in Unix seconds, rounded down.
    pub(super) fn expires_at(self) -> i64 {
        self.expires.floor
    }

    /// `iat` in Unix seconds, rounded down.
    pub(super) fn issued_at(self) -> Option<i64> {
        self.issued.map(|date| date.floor)
    }
}

// === impl UnixTime ===

/// Whole seconds, rounded down; before 1970 is negative.
impl From<SystemTime> for UnixTime {
    fn from(time: SystemTime) -> Self {
        Self(match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds - 1),
        })
    }
}

// === impl NumericDate ===

impl NumericDate {
    /// In Unix seconds, rounded down.
    pub(super) fn floor(self) -> i64 {
        self.floor
    }

    /// In Unix seconds, rounded up.
    pub(super) fn ceil(self) -> i64 {
        self.ceil
    }

    fn from_value(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        let (floor, ceil) = match number.as_i64() {
            Some(whole) => (whole, whole),
            None => {
                let fraction = number.as_f64().filter(|fraction| (0.0..=9_007_199_254_740_992.0).contains(fraction))?;
                (whole_seconds(fraction.floor()), whole_seconds(fraction.ceil()))
            }
        };
        let range = 0..=LAST_DATE;
        (range.contains(&floor) && range.contains(&ceil)).then_some(Self { floor, ceil })
    }
}

/// A date that may be absent.
pub(super) fn date(claims: &Map<String, Value>, claim: &'static str) -> Result<Option<NumericDate>, TokenError> {
    claims.get(claim).map(|value| NumericDate::from_value(value).ok_or(TokenError::DateMalformed { claim })).transpose()
}

pub(super) fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_possible_truncation, reason = "the caller holds the value inside 0..=2^53")]
fn whole_seconds(fraction: f64) -> i64 {
    fraction as i64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::{LAST_DATE, NumericDate, TimeRules, Times, UnixTime};
    use crate::token::TokenError;

    fn check(claims: &Value, leeway: u64, max_lifetime: u64, now: i64) -> Result<(), &'static str> {
        check_age(claims, (leeway, max_lifetime, None), now)
    }

    fn check_age(
        claims: &Value,
        (leeway, max_lifetime, max_age): (u64, u64, Option<u64>),
        now: i64,
    ) -> Result<(), &'static str> {
        let claims: &Map<String, Value> = claims.as_object().unwrap();
        let rules = TimeRules {
            leeway: Duration::from_secs(leeway),
            max_lifetime: Duration::from_secs(max_lifetime),
            max_age: max_age.map(Duration::from_secs),
        };
        Times::read(claims)
            .and_then(|times| times.check(rules, UnixTime(now)))
            .map_err(|error: TokenError| error.code())
    }

    #[test]
    fn a_token_of_a_limited_age_tells_it_and_is_younger() {
        let at = |claims: Value, now: i64| check_age(&claims, (30, 5000, Some(600)), now);
        assert_eq!(at(json!({"exp": 5000, "iat": 1000}), 1629), Ok(()));
        assert_eq!(at(json!({"exp": 5000, "iat": 1000}), 1630), Err("token_too_old"));
        assert_eq!(at(json!({"exp": 5000, "iat": 1000.9}), 1630), Err("token_too_old"));
        assert_eq!(at(json!({"exp": 5000}), 1000), Err("issued_at_missing"));
        assert_eq!(at(json!({"exp": 1000, "iat": 900}), 1630), Err("expired"));
    }

    #[test]
    fn a_date_is_a_number_between_the_epoch_and_2_to_the_53() {
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1790000000", Some((1_790_000_000, 1_790_000_000))),
            ("1790000000.0", Some((1_790_000_000, 1_790_000_000))),
            ("1790000000.5", Some((1_790_000_000, 1_790_000_001))),
            ("1.79e9", Some((1_790_000_000, 1_790_000_000))),
            ("9007199254740992", Some((LAST_DATE, LAST_DATE))),
            ("9007199254740993", None),
            ("18446744073709551615", None),
            ("18446744073709551616", None),
            ("1e300", None),
            ("-1", None),
            ("-0.5", None),
            ("null", None),
            ("true", None),
            ("\"1790000000\"", None),
            ("[1790000000]", None),
            ("{}", None),
        ] {
            let date = NumericDate::from_value(&serde_json::from_str(text).unwrap());
            assert_eq!(date.map(|date| (date.floor, date.ceil)), expected, "{text}");
        }
    }

    #[test]
    fn each_boundary_falls_on_the_strict_side() {
        let at = |claims: Value, now: i64| check(&claims, 30, 1000, now);
        assert_eq!(at(json!({"exp": 1000}), 1029), Ok(()));
        assert_eq!(at(json!({"exp": 1000}), 1030), Err("expired"));
        assert_eq!(at(json!({"exp": 1000.9}), 1030), Err("expired"));
        assert_eq!(at(json!({"exp": 1500, "nbf": 1030}), 1000), Ok(()));
        assert_eq!(at(json!({"exp": 1500, "nbf": 1030.1}), 1000), Err("not_yet_valid"));
        assert_eq!(at(json!({"exp": 1500, "nbf": 1031}), 1000), Err("not_yet_valid"));
        assert_eq!(at(json!({"exp": 1500, "iat": 1030}), 1000), Ok(()));
        assert_eq!(at(json!({"exp": 1500, "iat": 1031}), 1000), Err("issued_in_future"));
        assert_eq!(at(json!({"exp": 1001, "iat": 1002}), 1000), Err("issued_after_expiry"));
        assert_eq!(at(json!({"exp": 2000, "iat": 1000}), 1000), Ok(()));
        assert_eq!(at(json!({"exp": 2001, "iat": 1000}), 1000), Err("lifetime_too_long"));
        assert_eq!(at(json!({"exp": 2000}), 1000), Ok(()));
        assert_eq!(at(json!({"exp": 2001}), 1000), Err("lifetime_too_long"));
        assert_eq!(at(json!({}), 1000), Err("expiry_missing"));
        assert_eq!(at(json!({"exp": 0}), 1000), Err("expired"));
        assert_eq!(at(json!({"exp": 1500, "nbf": "1"}), 1000), Err("date_malformed"));
        assert_eq!(at(json!({"exp": 1500, "iat": null}), 1000), Err("date_malformed"));
    }

    proptest! {
        #[test]
        fn accepted_means_inside_every_window(
            exp in 0_i64..4000, nbf in proptest::option::of(0_i64..4000), iat in proptest::option::of(0_i64..4000),
            leeway in 0_u64..=300, max in 1_u64..2000, now in 0_i64..4000,
        ) {
            let mut claims = json!({ "exp": exp });
            if let Some(nbf) = nbf { claims["nbf"] = json!(nbf); }
            if let Some(iat) = iat { claims["iat"] = json!(iat); }
            let skew = i64::try_from(leeway).unwrap();
            let inside = now < exp + skew
                && nbf.is_none_or(|nbf| nbf <= now + skew)
                && iat.is_none_or(|iat| iat <= now + skew && iat <= exp)
                && exp - iat.unwrap_or(now) <= i64::try_from(max).unwrap();
            prop_assert_eq!(check(&claims, leeway, max, now).is_ok(), inside);
        }

        #[test]
        fn no_number_and_no_time_panics(exp in any::<f64>(), now in any::<i64>(), leeway in any::<u64>(), max in any::<u64>()) {
            let _ = check(&json!({ "exp": exp, "iat": exp, "nbf": exp }), leeway, max, now);
        }

        #[test]
        fn once_expired_a_token_stays_expired(exp in 0_i64..4000, leeway in 0_u64..=300, now in 0_i64..8000, later in 0_i64..8000) {
            let claims = json!({ "exp": exp });
            if check(&claims, leeway, 10_000, now) == Err("expired") {
                prop_assert_eq!(check(&claims, leeway, 10_000, now + later), Err("expired"));
            }
        }
    }
}
