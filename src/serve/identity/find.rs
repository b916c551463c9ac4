//! Where a token stands in a request: looks into every configured place, and takes exactly one token or none. Two places
//! that hold something, or one that holds something else, are never sorted out by guessing.

use http::{
    HeaderMap,
    header::{AUTHORIZATION, COOKIE},
};

use super::InvalidRequest;
use crate::{
    request::parse_query,
    serve::TokenSource,
    token::{RawToken, Scheme},
};

/// What a request presents.
#[derive(Debug)]
pub(in crate::serve) enum Presented {
    /// None of the configured places holds anything.
    Nothing,
    /// A place holds credentials of another kind, or an empty value: not a token, and not nothing either.
    Foreign,
    /// Exactly one token.
    Token(RawToken, Scheme),
}

const BEARER: &str = "Bearer";
const DPOP: &str = "DPoP";

/// Looks into every configured place.
pub(in crate::serve) fn find(
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
        return token(value, Scheme::Bearer);
    }
    let (sent, rest) = value.split_once(' ').unwrap_or((value, ""));
    // Who takes `Authorization: Bearer` takes `Authorization: DPoP` too: the token itself says which of the two it needs.
    let is_dpop = name == AUTHORIZATION && sent.eq_ignore_ascii_case(DPOP);
    let takes_dpop = scheme.eq_ignore_ascii_case(BEARER) || scheme.eq_ignore_ascii_case(DPOP);
    let scheme = match is_dpop && takes_dpop {
        true => Scheme::Dpop,
        false if sent.eq_ignore_ascii_case(scheme) => Scheme::Bearer,
        false => return Ok(Presented::Foreign),
    };
    // RFC 6750 §2.1: one or more spaces, then one token.
    token(rest.trim_start_matches(' '), scheme)
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
                token(std::str::from_utf8(value).map_err(|_| InvalidRequest::Malformed)?, Scheme::Bearer)?
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
    if value.is_empty() { Ok(Presented::Foreign) } else { token(value, Scheme::Bearer) }
}

/// RFC 6750 `b64token`, which a compact JWS is. So a comma list, a second word and quotes are refused here.
fn token(text: &str, scheme: Scheme) -> Result<Presented, InvalidRequest> {
    let body = text.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    if body.is_empty() || !body.bytes().all(allowed) {
        return Err(InvalidRequest::Malformed);
    }
    Ok(Presented::Token(RawToken::new(text), scheme))
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const TOKEN: &str = "aaa.bbb.ccc";

    fn header(name: &str, scheme: &str) -> TokenSource {
        TokenSource::Header { name: name.to_owned(), scheme: scheme.to_owned() }
    }

    /// `want`: `nothing`, `foreign`, `token`, `dpop`, `several_tokens` or `malformed_token`.
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
            Ok(Presented::Token(_, Scheme::Bearer)) => "token",
            Ok(Presented::Token(_, Scheme::Dpop)) => "dpop",
            Err(invalid) => invalid.code(),
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
        for value in ["", "Basic dXNlcjpwdw==", "Basic", "DPoPs x", "Bearers x", "aaa.bbb.ccc", "Bearer,x y"] {
            check(value, "foreign");
        }
        for value in ["DPoP aaa.bbb.ccc", "dpop aaa.bbb.ccc", "DPOP  aaa.bbb.ccc"] {
            check(value, "dpop");
        }
        for value in [
            "DPoP",
            "DPoP aaa.bbb.ccc, Bearer aaa.bbb.ccc",
            "DPoP Bearer aaa.bbb.ccc",
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
    fn the_scheme_dpop_belongs_to_the_header_authorization() {
        let dpop = [("authorization", "DPoP aaa"), ("x-token", "DPoP aaa")];
        for (name, scheme, want) in [
            ("authorization", "Bearer", "dpop"),
            ("authorization", "DPoP", "dpop"),
            ("authorization", "Token", "foreign"),
            ("authorization", "", "malformed_token"),
            ("x-token", "Bearer", "foreign"),
            ("x-token", "DPoP", "token"),
        ] {
            check(&[header(name, scheme)], &dpop, None, want);
        }
        check(&[header("authorization", "DPoP")], &[("authorization", "Bearer aaa")], None, "foreign");
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
}
