//! Who asks: finds the one token that a request presents, has it verified, and says in RFC 6750's words why not.
//!
//! A request presents no token only when none of the configured places holds anything. Whatever stands there and is not
//! exactly one well-formed token (another scheme, an empty cookie, a second token) is refused and never becomes an
//! anonymous caller. The client learns that the token was refused, and never why; the reason is for the log, the metric
//! and the decision event.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{COOKIE, RETRY_AFTER, WWW_AUTHENTICATE},
};

use super::{App, TokenSource, answer::Answer};
use crate::{
    authorize::{self, DenyReason},
    input::KnownCaller,
    request::parse_query,
    snapshot::Snapshot,
    token::{Caller, RawToken, StatusError, TokenError},
};

/// A caller, and the snapshot that it was verified against: the rest of the request uses the same one.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) caller: KnownCaller,
    /// How long the token took; `None` without one.
    pub(super) verification: Option<Duration>,
}

/// No caller.
#[derive(Debug)]
pub(super) struct Unidentified {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) cause: Cause,
    pub(super) verification: Option<Duration>,
}

/// Why there is no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cause {
    /// The request does not present its token in one clear way.
    #[error("{0}")]
    Request(InvalidRequest),
    /// Denied by the verifier, or because there is no token.
    #[error("{0}")]
    Denied(DenyReason),
}

/// RFC 6750 §3.1 `invalid_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidRequest {
    /// More than one token.
    #[error("more than one token was sent")]
    SeveralTokens,
    /// Something that cannot be a token in a place for one.
    #[error("the place of the token holds something that is not a token")]
    Malformed,
}

/// What a request presents.
#[derive(Debug)]
pub(super) enum Presented {
    /// None of the configured places holds anything.
    Nothing,
    /// A place holds credentials of another kind, or an empty value: not a token, and not nothing either.
    Foreign,
    /// Exactly one token.
    Token(RawToken),
}

/// The `WWW-Authenticate` values, made once.
#[derive(Debug)]
pub(super) struct Challenges {
    bare: HeaderValue,
    invalid_token: HeaderValue,
    invalid_request: HeaderValue,
}

/// Finds the token and has it verified. When the issuer's keys might be out of date they are asked for once, and the
/// request goes on with the snapshot that has them.
pub(super) async fn identify(
    app: &App,
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Identified, Box<Unidentified>> {
    let mut snapshot = app.snapshots.current();
    let presented = match find(&app.settings.token_sources, headers, query) {
        Ok(Presented::Nothing) => None,
        Ok(Presented::Token(raw)) => Some(raw),
        Ok(Presented::Foreign) => return Err(unidentified(snapshot, Cause::Denied(DenyReason::NoToken), None)),
        Err(invalid) => return Err(unidentified(snapshot, Cause::Request(invalid), None)),
    };
    let began = Instant::now();
    let mut result = look(app, &snapshot, presented.as_ref()).await;
    if let Err(DenyReason::Token(error)) = &result
        && let Some(issuer) = error.wants_keys_of()
        && app.snapshots.request_keys(issuer, app.settings.key_patience).await
    {
        snapshot = app.snapshots.current();
        result = look(app, &snapshot, presented.as_ref()).await;
    }
    let verification = presented.is_some().then(|| began.elapsed());
    match result {
        Ok(caller) => Ok(Identified { snapshot, caller, verification }),
        Err(reason) => {
            if matches!(reason, DenyReason::Token(_) | DenyReason::Revoked(_)) {
                app.telemetry.metrics().verification_failed(reason.code());
            }
            Err(unidentified(snapshot, Cause::Denied(reason), verification))
        }
    }
}

/// Who presents this, according to one snapshot: by the token itself, or by what its issuer says about it.
async fn look(app: &App, snapshot: &Snapshot, presented: Option<&RawToken>) -> Result<KnownCaller, DenyReason> {
    let now = SystemTime::now();
    let Some(raw) = presented else { return authorize::identify(snapshot, None, now).map(KnownCaller::new) };
    let known = match app.introspection.identify(snapshot, raw, now).await {
        Some(asked) => asked.map_err(DenyReason::Token)?,
        None => {
            let known = app.tokens.identify(snapshot, raw, now)?;
            app.introspection.confirm(snapshot, raw, known.caller(), now).await.map_err(DenyReason::Token)?;
            known
        }
    };
    // Last, whoever vouched for the token and however long ago: what the world has said about it since. Asking an issuer
    // takes time, so this is not the `now` from above.
    if let Caller::Verified(claims) = known.caller() {
        let admit = || authorize::admit(snapshot, claims, app.world(), SystemTime::now());
        match admit() {
            Err(DenyReason::Token(TokenError::Status(StatusError::Unavailable { issuer, uri })))
                if app.status_lists.fetch(&issuer, &uri).await =>
            {
                admit()?;
            }
            admitted => admitted?,
        }
    }
    Ok(known)
}

fn unidentified(snapshot: Arc<Snapshot>, cause: Cause, verification: Option<Duration>) -> Box<Unidentified> {
    tracing::debug!(code = cause.code(), detail = %cause, "the caller was not identified");
    Box::new(Unidentified { snapshot, cause, verification })
}

/// Looks into every configured place.
pub(super) fn find(
    sources: &[TokenSource],
    headers: &HeaderMap,
    query: Option<&str>,
) -> Result<Presented, InvalidRequest> {
    let mut found = Presented::Nothing;
    for source in sources {
        let here = match source {
            TokenSource::Header { name, scheme } => in_header(headers, name, scheme)?,
            TokenSource::Cookie(name) => in_cookies(headers, name)?,
            TokenSource::Query(name) => in_query(query, name)?,
        };
        found = match (found, here) {
            (found, Presented::Nothing) => found,
            (Presented::Nothing, here) => here,
            (Presented::Foreign, Presented::Foreign) => Presented::Foreign,
            // Two places hold something. Which one counts is a guess, and a proxy before us may guess otherwise.
            _ => return Err(InvalidRequest::SeveralTokens),
        };
    }
    Ok(found)
}

fn in_header(headers: &HeaderMap, name: &str, scheme: &str) -> Result<Presented, InvalidRequest> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(Presented::Nothing) };
    if values.next().is_some() {
        return Err(InvalidRequest::SeveralTokens);
    }
    let value = value.to_str().map_err(|_| InvalidRequest::Malformed)?.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Ok(Presented::Foreign);
    }
    if scheme.is_empty() {
        return token(value);
    }
    let (sent, rest) = value.split_once(' ').unwrap_or((value, ""));
    if !sent.eq_ignore_ascii_case(scheme) {
        return Ok(Presented::Foreign);
    }
    // RFC 6750 §2.1: one or more spaces, then one token.
    token(rest.trim_start_matches(' '))
}

fn in_cookies(headers: &HeaderMap, name: &str) -> Result<Presented, InvalidRequest> {
    let mut found = Presented::Nothing;
    for header in headers.get_all(COOKIE) {
        // Other cookies may hold anything; only the bytes of ours must be text.
        for cookie in header.as_bytes().split(|byte| *byte == b';') {
            let cookie = cookie.trim_ascii();
            let Some(value) = cookie.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) else {
                continue;
            };
            if !matches!(found, Presented::Nothing) {
                return Err(InvalidRequest::SeveralTokens);
            }
            found = if value.is_empty() {
                Presented::Foreign
            } else {
                token(std::str::from_utf8(value).map_err(|_| InvalidRequest::Malformed)?)?
            };
        }
    }
    Ok(found)
}

fn in_query(query: Option<&str>, name: &str) -> Result<Presented, InvalidRequest> {
    let parameters = parse_query(query.unwrap_or_default()).map_err(|_| InvalidRequest::Malformed)?;
    let mut values = parameters.iter().filter(|(parameter, _)| parameter == name);
    let Some((_, value)) = values.next() else { return Ok(Presented::Nothing) };
    if values.next().is_some() {
        return Err(InvalidRequest::SeveralTokens);
    }
    if value.is_empty() { Ok(Presented::Foreign) } else { token(value) }
}

/// RFC 6750 `b64token`, which a compact JWS is. So a comma list, a second word and quotes are refused here.
fn token(text: &str) -> Result<Presented, InvalidRequest> {
    let body = text.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(InvalidRequest::Malformed);
    }
    Ok(Presented::Token(RawToken::new(text)))
}

// === impl Cause ===

impl Cause {
    /// Stable code for the log, the metric and the decision event; the client never gets it.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Request(InvalidRequest::SeveralTokens) => "several_tokens",
            Self::Request(InvalidRequest::Malformed) => "malformed_token",
            Self::Denied(reason) => reason.code(),
        }
    }

    /// The code that the client gets: one for all reasons why a token was refused.
    pub(super) fn public_code(&self) -> &'static str {
        match self {
            Self::Request(_) => "invalid_request",
            Self::Denied(reason) if reason.is_unavailable() => "temporarily_unavailable",
            Self::Denied(DenyReason::NoToken) => "unauthorized",
            Self::Denied(_) => "invalid_token",
        }
    }

    fn message(&self) -> &'static str {
        match self.public_code() {
            "invalid_request" => "the request must present exactly one well-formed token",
            "temporarily_unavailable" => "tokens of this issuer cannot be verified at the moment",
            "unauthorized" => "authentication is required",
            _ => "the token was not accepted",
        }
    }

    /// RFC 6750 §3.1, and 503 when the fault is ours.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Denied(reason) if reason.is_unavailable() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Denied(_) => StatusCode::UNAUTHORIZED,
        }
    }

    /// The headers that go with the refusal, whatever its status becomes.
    pub(super) fn header(&self, challenges: &Challenges) -> (HeaderName, HeaderValue) {
        match self.public_code() {
            "invalid_request" => (WWW_AUTHENTICATE, challenges.invalid_request.clone()),
            "temporarily_unavailable" => (RETRY_AFTER, HeaderValue::from_static("5")),
            "unauthorized" => (WWW_AUTHENTICATE, challenges.bare.clone()),
            _ => (WWW_AUTHENTICATE, challenges.invalid_token.clone()),
        }
    }

    pub(super) fn answer(&self, challenges: &Challenges) -> Answer {
        let (name, value) = self.header(challenges);
        Answer::error(self.status(), self.public_code(), self.message()).with(name, value)
    }
}

// === impl Challenges ===

impl Challenges {
    /// `realm` is put into a quoted string; characters that cannot stand there are dropped.
    pub(super) fn new(realm: &str) -> Self {
        let realm: String = realm.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
        let value = |rest: &str| {
            HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{rest}"))
                .unwrap_or(HeaderValue::from_static("Bearer"))
        };
        Self {
            bare: value(""),
            invalid_token: value(", error=\"invalid_token\", error_description=\"the token was not accepted\""),
            invalid_request: value(
                ", error=\"invalid_request\", error_description=\"the request must present exactly one well-formed token\"",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "aaa.bbb.ccc";

    fn header(name: &str, scheme: &str) -> TokenSource {
        TokenSource::Header { name: name.to_owned(), scheme: scheme.to_owned() }
    }

    /// `want`: `nothing`, `foreign`, `token`, `several_tokens` or `malformed_token`.
    fn check(sources: &[TokenSource], headers: &[(&str, &str)], query: Option<&str>, want: &str) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let got = match find(sources, &map, query) {
            Ok(Presented::Nothing) => "nothing",
            Ok(Presented::Foreign) => "foreign",
            Ok(Presented::Token(_)) => "token",
            Err(invalid) => Cause::Request(invalid).code(),
        };
        assert_eq!(got, want, "{headers:?} {query:?}");
    }

    #[test]
    fn a_header_holds_exactly_one_token_of_the_scheme() {
        let bearer = [header("authorization", "Bearer")];
        let check = |value: &str, want| check(&bearer, &[("authorization", value)], None, want);
        for value in
            ["Bearer aaa.bbb.ccc", "bearer aaa.bbb.ccc", "BEARER aaa.bbb.ccc", "Bearer   aaa.bbb.ccc", "Bearer a=="]
        {
            check(value, "token");
        }
        for value in ["", "Basic dXNlcjpwdw==", "Basic", "DPoP aaa.bbb.ccc", "Bearers x", "aaa.bbb.ccc", "Bearer,x y"] {
            check(value, "foreign");
        }
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer aaa.bbb.ccc ddd",
            "Bearer aaa.bbb.ccc, Bearer ddd",
            "Bearer aaa,bbb",
            "Bearer \"aaa\"",
            "Bearer ==",
            "Bearer aaa\tbbb",
            "Bearer a=b",
            "Bearer é",
            "Bearer {}",
            "Bearer \taaa",
        ] {
            check(value, "malformed_token");
        }
    }

    #[test]
    fn several_tokens_are_refused_wherever_they_stand() {
        let all = [
            header("authorization", "Bearer"),
            header("x-id-token", ""),
            TokenSource::Cookie("session".to_owned()),
            TokenSource::Query("access_token".to_owned()),
        ];
        let bearer = ("authorization", "Bearer aaa.bbb.ccc");
        let cookie = ("cookie", "a=b; session=aaa.bbb.ccc");
        check(&all, &[], None, "nothing");
        check(&all, &[bearer], Some("x=1"), "token");
        check(&all, &[("x-id-token", TOKEN)], None, "token");
        check(&all, &[cookie], None, "token");
        check(&all, &[], Some("a=1&access_token=aaa.bbb.ccc"), "token");
        for twice in [[bearer, bearer], [bearer, cookie], [cookie, cookie], [bearer, ("x-id-token", TOKEN)]] {
            check(&all, &twice, None, "several_tokens");
        }
        check(&all, &[("cookie", "session=aaa; session=bbb")], None, "several_tokens");
        check(&all, &[bearer], Some("access_token=aaa"), "several_tokens");
        check(&all, &[], Some("access_token=aaa&access_token=aaa"), "several_tokens");
        check(&all, &[("authorization", "Basic eA=="), cookie], None, "several_tokens");
        check(&all, &[("authorization", "Basic eA=="), ("cookie", "session=")], None, "foreign");
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name() {
        let cookie = [TokenSource::Cookie("session".to_owned())];
        let check = |value: &str, want| check(&cookie, &[("cookie", value)], None, want);
        check("session=aaa.bbb.ccc", "token");
        check("x=1;session=aaa.bbb.ccc;y=2", "token");
        check("xsession=aaa; session2=bbb; SESSION=ccc", "nothing");
        check("session", "nothing");
        check("session=", "foreign");
        check("session=\"aaa.bbb.ccc\"", "malformed_token");
        check("session=aaa bbb", "malformed_token");
    }

    #[test]
    fn a_place_that_is_not_configured_is_not_looked_at() {
        check(&[], &[("authorization", "Bearer aaa")], Some("access_token=a"), "nothing");
        check(&[header("authorization", "Bearer")], &[("cookie", "session=a")], Some("access_token=a"), "nothing");
    }

    #[test]
    fn a_query_that_cannot_be_read_is_not_nothing() {
        let query = [TokenSource::Query("t".to_owned())];
        check(&query, &[], Some("t=%zz"), "malformed_token");
        check(&query, &[], Some("t="), "foreign");
        check(&query, &[], Some("%74=aaa"), "token");
    }

    #[test]
    fn a_realm_cannot_break_out_of_its_quotes() {
        let challenges = Challenges::new("a\"b\\c\r\nd é");
        assert_eq!(challenges.bare, "Bearer realm=\"abcd \"");
    }
}
