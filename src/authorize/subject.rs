//! The caller's current record against the token: what the token says was true when it was issued, and the record is true
//! now. A record that says that the subject is suspended or deleted ends the request before policy is asked; a record
//! whose `valid_after` lies at or after the token's `iat` has taken the token back. Words that are not known here are for
//! policy to judge.

use chrono::DateTime;

use super::DenyReason;
use crate::{
    input::{live_key, live_record},
    policy::Value,
    snapshot::{Snapshot, UnknownSubject},
    token::{RevocationKind, Revoked, VerifiedClaims},
};

/// Words for a subject that is to be kept out for now. Case does not count, nor does white space around them.
const SUSPENDED: [&str; 9] =
    ["suspended", "disabled", "blocked", "locked", "inactive", "deactivated", "banned", "frozen", "revoked"];
/// Words for a subject that is gone.
const DELETED: [&str; 6] = ["deleted", "removed", "deprovisioned", "terminated", "closed", "archived"];
/// The member of a record that is an epoch, as in revocations.
const VALID_AFTER: &str = "valid_after";

/// Does the caller's record let it in?
pub(super) fn check(snapshot: &Snapshot, claims: &VerifiedClaims) -> Result<(), DenyReason> {
    let Some(source) = &snapshot.subject else { return Ok(()) };
    if live_key(claims, &source.key).is_err() {
        return Err(DenyReason::SubjectMalformed("the claim that names it is neither text nor a whole number"));
    }
    let Some(record) = live_record(claims, snapshot) else {
        return match source.unknown {
            UnknownSubject::Deny => Err(DenyReason::SubjectUnknown),
            UnknownSubject::ClaimsOnly => Ok(()),
        };
    };
    let Ok(members) = record.as_object() else {
        // It has no members that could be looked at; policy sees it as it is.
        return if source.status.is_some() { Err(DenyReason::SubjectMalformed("it is not an object")) } else { Ok(()) };
    };
    let member = |name: &str| members.get(&Value::from(name));
    if let Some(status) = source.status.as_deref().and_then(member) {
        check_status(status)?;
    }
    match member(VALID_AFTER) {
        None | Some(Value::Null) => Ok(()),
        Some(value) => check_epoch(value, claims),
    }
}

fn check_status(status: &Value) -> Result<(), DenyReason> {
    match status {
        Value::String(word) => {
            let word = word.trim();
            let is_one_of = |words: &[&str]| words.iter().any(|known| known.eq_ignore_ascii_case(word));
            if is_one_of(&DELETED) {
                Err(DenyReason::SubjectDeleted)
            } else if is_one_of(&SUSPENDED) {
                Err(DenyReason::SubjectSuspended)
            } else {
                Ok(())
            }
        }
        // As `active` of SCIM (RFC 7643 §4.1.1).
        Value::Bool(false) => Err(DenyReason::SubjectSuspended),
        _ => Ok(()),
    }
}

fn check_epoch(value: &Value, claims: &VerifiedClaims) -> Result<(), DenyReason> {
    let epoch = seconds(value).ok_or(DenyReason::SubjectMalformed(
        "`valid_after` is neither seconds since 1970 nor a time such as `2026-01-31T12:00:00Z`",
    ))?;
    let issued_at = claims.issued_at();
    if issued_at.is_some_and(|issued_at| issued_at > epoch) {
        return Ok(());
    }
    Err(DenyReason::Revoked(Revoked { kind: RevocationKind::Subject, valid_after: Some(epoch), issued_at }))
}

/// Seconds since 1970, before the year 2106: what is larger was written in milliseconds and would refuse every token,
/// which is not what was meant.
fn seconds(value: &Value) -> Option<i64> {
    let seconds = match value {
        Value::String(text) => DateTime::parse_from_rfc3339(text.trim()).ok()?.timestamp(),
        Value::Number(number) => match number.as_i64() {
            Some(seconds) => seconds,
            None => whole(number.as_f64()?)?,
        },
        _ => return None,
    };
    (0..=i64::from(u32::MAX)).contains(&seconds).then_some(seconds)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked, and a part of a second does not count")]
fn whole(seconds: f64) -> Option<i64> {
    (0.0..=f64::from(u32::MAX)).contains(&seconds).then_some(seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(json: &str) -> &'static str {
        check_status(&Value::from_json_str(json).unwrap()).map_or_else(|reason| reason.code(), |()| "ok")
    }

    #[test]
    fn a_word_keeps_out_whatever_its_case_and_only_as_a_whole() {
        for (json, want) in [
            (r#""active""#, "ok"),
            (r#""""#, "ok"),
            (r#""on probation""#, "ok"),
            (r#""not suspended""#, "ok"),
            (r#""undeleted""#, "ok"),
            (r#""suspended""#, "subject_suspended"),
            (r#"" SUSPENDED\n""#, "subject_suspended"),
            (r#""Disabled""#, "subject_suspended"),
            (r#""inactive""#, "subject_suspended"),
            (r#""Deleted""#, "subject_deleted"),
            (r#""deprovisioned""#, "subject_deleted"),
            ("false", "subject_suspended"),
            ("true", "ok"),
            ("null", "ok"),
            ("0", "ok"),
            (r#"["suspended"]"#, "ok"),
        ] {
            assert_eq!(status(json), want, "{json}");
        }
    }

    #[test]
    fn an_epoch_is_seconds_or_rfc_3339() {
        for (json, want) in [
            ("1790000000", Some(1_790_000_000)),
            ("1790000000.9", Some(1_790_000_000)),
            ("0", Some(0)),
            (r#""2026-09-21T14:13:20Z""#, Some(1_790_000_000)),
            (r#"" 2026-09-21T16:13:20+02:00 ""#, Some(1_790_000_000)),
            ("-1", None),
            ("1790000000000", None),
            ("1e300", None),
            (r#""1790000000""#, None),
            (r#""2026-09-21""#, None),
            (r#""9999-12-31T23:59:59Z""#, None),
            ("true", None),
            ("{}", None),
        ] {
            assert_eq!(seconds(&Value::from_json_str(json).unwrap()), want, "{json}");
        }
    }
}
