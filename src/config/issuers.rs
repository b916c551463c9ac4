//! The `issuers` list → issuer profiles and their key sources. It refuses what could not verify safely: no audience,
//! `none`, shared secrets with remote keys, plain HTTP to a remote host.

use std::time::Duration;

use super::{
    introspection, notices,
    problem::{Code, list},
    section::{Section, Text},
    transport,
    tree::shorten,
};
use crate::{
    reload::{FetchSettings, KeySource},
    token::{Algorithm, IssuerProfile, KeyOrigin, ProfileSettings, SenderConstraint},
};

/// Names of all algorithms: those of RFC 7518 and RFC 8037, then those of RFC 9864 for the same ones.
const ALGORITHMS: [(&str, Algorithm); 17] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("ES512", Algorithm::ES512),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("ESP256", Algorithm::ES256),
    ("ESP384", Algorithm::ES384),
    ("ESP512", Algorithm::ES512),
    ("Ed25519", Algorithm::EdDSA),
];
/// What identity providers sign with today. Shared secrets are never a default.
const DEFAULT_ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];
/// Access tokens of RFC 9068, and the plain `JWT` that most providers still write.
const DEFAULT_TYPES: [&str; 2] = ["at+jwt", "jwt"];
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const GREATEST_LEEWAY: Duration = Duration::from_secs(300);
/// Why keys do not travel over plain HTTP.
const REPLACED_KEYS: &str = "replace the keys";
/// Claims that every token must have anyway.
const ALWAYS_REQUIRED: [&str; 3] = ["iss", "aud", "exp"];

/// Settings that mean nothing for keys that are at hand.
const REMOTE_ONLY: [&str; 9] = [
    "refresh",
    "max_stale",
    "refetch_cooldown",
    "timeout",
    "max_bytes",
    "allow_http",
    "ca_file",
    "client_certificate",
    "client_key",
];

/// Reads the whole list. Items with problems are reported and left out.
///
/// `tenant_claim` is the same for all of them: a tenant is revoked whichever issuer its tokens are from.
pub(super) fn read(root: &mut Section<'_>, tenant_claim: Option<&str>) -> Vec<(IssuerProfile, KeySource)> {
    let mut profiles: Vec<(IssuerProfile, KeySource)> = Vec::new();
    for mut section in root.sections("issuers") {
        if !section.is_mapping() {
            continue;
        }
        let issuer = read_issuer(&mut section);
        let discovery = section.flag_or_text("discovery");
        let introspection = introspection::read(&mut section, discovery.is_some());
        let needs_keys = introspection.as_ref().is_none_or(|introspection| !introspection.needs_no_keys());
        let keys = read_keys(&mut section, &issuer, discovery, needs_keys);
        let origin = match &keys {
            Some(KeySource::None) => KeyOrigin::Nowhere,
            Some(source) if !source.is_remote() => KeyOrigin::Local,
            _ => KeyOrigin::Remote,
        };
        let settings = read_profile(&mut section, issuer, origin, keys.is_some());
        let settings = ProfileSettings { introspection, tenant_claim: tenant_claim.map(str::to_owned), ..settings };
        if let (false, Some(keys)) = (section.has_problems(), keys) {
            match IssuerProfile::new(settings) {
                Ok(profile) if profiles.iter().any(|(other, _)| other.issuer() == profile.issuer()) => {
                    let message = format!("`{}` stands in the list twice; an issuer has one entry", profile.issuer());
                    section.problem(Code::DuplicateKey, "issuer", message);
                }
                Ok(profile) if wants_opaque(&profile) && profiles.iter().any(|(other, _)| wants_opaque(other)) => {
                    let message = "another issuer has it already, but an opaque token does not say whose it is, and nobody \
                                   else may see it; set it for one issuer";
                    section.problem(Code::InvalidValue, "introspection.opaque", message);
                }
                Ok(profile) => profiles.push((profile, keys)),
                Err(errors) => {
                    for error in errors {
                        section.problem(Code::InvalidValue, error.field, error.message);
                    }
                }
            }
        }
        section.finish();
    }
    profiles
}

fn wants_opaque(profile: &IssuerProfile) -> bool {
    profile.introspection().is_some_and(|introspection| introspection.opaque)
}

fn read_issuer(section: &mut Section<'_>) -> String {
    let issuer = section.text("issuer");
    match &issuer {
        None if !section.concerns("issuer") => {
            section.problem(Code::MissingKey, "issuer", "it is not set; write the exact `iss` of the tokens");
        }
        Some(text) if text.text.is_empty() => {
            section.problem_at(text, "it is empty; write the exact `iss` of the tokens");
        }
        _ => {}
    }
    issuer.map(|text| text.text).unwrap_or_default()
}

fn read_profile(section: &mut Section<'_>, issuer: String, origin: KeyOrigin, origin_known: bool) -> ProfileSettings {
    let audiences = section.texts("audiences", &[]);
    if audiences.is_empty() && !section.concerns("audiences") {
        let message = "at least one is needed; without it, a token made for any other service would be accepted here";
        section.problem(Code::MissingKey, "audiences", message);
    }
    for audience in audiences.iter().filter(|audience| audience.text.is_empty()) {
        section.problem_at(audience, "it is empty; write the exact `aud` of the tokens");
    }
    let algorithms = read_algorithms(section, origin_known && origin == KeyOrigin::Remote);
    let algorithms = if origin == KeyOrigin::Nowhere { Vec::new() } else { algorithms };
    let types = section.texts("types", &DEFAULT_TYPES);
    if types.is_empty() && !section.concerns("types") {
        section.problem(Code::InvalidValue, "types", "it is empty, so no token could pass; name at least one `typ`");
    }
    let mut claims = section.section("claims");
    let settings = ProfileSettings {
        issuer,
        audiences: plain(audiences),
        algorithms,
        types: types.into_iter().map(|typ| normal_type(&typ.text)).collect(),
        leeway: section.duration("leeway", Duration::from_secs(30), Duration::ZERO..=GREATEST_LEEWAY),
        max_lifetime: section.duration("max_lifetime", DAY, Duration::from_secs(1)..=DAY * 366),
        max_age: Some(section.duration("max_age", Duration::ZERO, Duration::ZERO..=DAY * 366))
            .filter(|age| !age.is_zero()),
        max_claims: section.count("max_claims", 1000, 8..=1000),
        max_array: section.count("max_array", 1000, 1..=1000),
        required_claims: plain(section.texts("required_claims", &[]))
            .into_iter()
            .filter(|claim| !ALWAYS_REQUIRED.contains(&claim.as_str()))
            .collect(),
        keep: plain(claims.texts("keep", &[])),
        rename: claims.text_map("rename"),
        sender_constraint: section.choice("sender_constraint", &SenderConstraint::ALL, SenderConstraint::Optional),
        key_origin: origin,
        introspection: None,
        logout: notices::read_logout(section),
        status_lists: notices::read_status_use(section),
        ..ProfileSettings::default()
    };
    claims.finish();
    settings
}

pub(super) fn read_algorithms(section: &mut Section<'_>, remote: bool) -> Vec<Algorithm> {
    let names = section.texts("algorithms", &DEFAULT_ALGORITHMS);
    if names.is_empty() && !section.concerns("algorithms") {
        let message = "it is empty, so no token could pass; leave it out for the defaults, or name at least one";
        section.problem(Code::InvalidValue, "algorithms", message);
    }
    let mut algorithms = Vec::new();
    for name in &names {
        if let Some(algorithm) = algorithm(section, name) {
            if remote && name.text.starts_with("HS") {
                let message = format!(
                    "`{}` signs with a shared secret, and a key set that is fetched holds public keys only; remove it, \
                     or put the secret into `jwks.file`",
                    name.text
                );
                section.problem_at(name, message);
            }
            // Two names of one algorithm are no mistake.
            if !algorithms.contains(&algorithm) {
                algorithms.push(algorithm);
            }
        }
    }
    algorithms
}

/// One algorithm by its name; `none` is none.
pub(super) fn algorithm(section: &Section<'_>, name: &Text) -> Option<Algorithm> {
    if name.text.eq_ignore_ascii_case("none") {
        section.problem_at(name, "`none` means no signature at all: anybody could write such a token; remove it");
        return None;
    }
    section.choose(name, &ALGORITHMS)
}

/// Exactly one source of keys; none only where none are needed. `discovery` is what stands there.
pub(super) fn read_keys(
    section: &mut Section<'_>,
    issuer: &str,
    discovery: Option<Result<Text, Text>>,
    needs_keys: bool,
) -> Option<KeySource> {
    let mut jwks = section.section("jwks");
    let local_knob = REMOTE_ONLY.into_iter().find(|key| jwks.has(key));
    let fetch = read_fetch(&mut jwks);
    let (url, file, inline) = (jwks.text("url"), jwks.text("file"), jwks.document("inline"));

    let mut sources: Vec<&str> = Vec::new();
    for (name, given) in [
        ("jwks.url", url.is_some()),
        ("jwks.file", file.is_some()),
        ("jwks.inline", inline.is_some()),
        ("discovery", discovery.is_some()),
    ] {
        if given {
            sources.push(name);
        }
    }
    let source = match (url, file, inline, discovery) {
        (Some(url), None, None, None) => {
            check_url(&jwks, &url, fetch.http.allow_http, "jwks.allow_http", REPLACED_KEYS);
            Some(KeySource::Url { url: url.text, fetch })
        }
        (None, Some(file), None, None) => Some(KeySource::File(jwks.existing(&file))),
        (None, None, Some(text), None) => Some(KeySource::Inline(text)),
        (None, None, None, Some(Ok(place))) => {
            if !issuer.is_empty() {
                check_url(
                    section,
                    &Text { text: issuer.to_owned(), ..place },
                    fetch.http.allow_http,
                    "jwks.allow_http",
                    REPLACED_KEYS,
                );
            }
            Some(KeySource::Discovery { url: None, fetch })
        }
        (None, None, None, Some(Err(url))) => {
            check_url(section, &url, fetch.http.allow_http, "jwks.allow_http", REPLACED_KEYS);
            Some(KeySource::Discovery { url: Some(url.text), fetch })
        }
        (None, None, None, None) if !needs_keys => Some(KeySource::None),
        _ => {
            if sources.len() > 1 {
                let message = format!("{} are set, but keys come from one place; keep one", list(&sources));
                section.problem(Code::InvalidValue, "jwks", message);
            } else if !section.concerns("jwks") && !section.concerns("discovery") {
                let message = "no keys; set `jwks.url`, `jwks.file`, `jwks.inline`, or `discovery: true`";
                section.problem(Code::MissingKey, "jwks", message);
            }
            None
        }
    };
    if let (Some(KeySource::File(_) | KeySource::Inline(_)), Some(knob)) = (&source, local_knob) {
        jwks.problem(Code::InvalidValue, knob, "it is for keys that are fetched, and these are at hand; remove it");
    }
    jwks.finish();
    source
}

fn read_fetch(jwks: &mut Section<'_>) -> FetchSettings {
    let default = FetchSettings::default();
    let second = Duration::from_secs(1);
    FetchSettings {
        ttl: jwks.duration("refresh", default.ttl, second * 10..=DAY),
        max_stale: jwks.duration("max_stale", default.max_stale, Duration::ZERO..=DAY * 30),
        unknown_kid_cooldown: jwks.duration("refetch_cooldown", default.unknown_kid_cooldown, second..=DAY),
        http: transport::read(jwks, &default.http),
    }
}

/// What decides who is believed travels over TLS, except on this machine. `danger`: what whoever is on the way could do.
pub(super) fn check_url(section: &Section<'_>, url: &Text, allow_http: bool, switch: &str, danger: &str) {
    let shown = shorten(&url.text);
    let parsed = match url.text.parse::<http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => uri,
        _ => {
            section
                .problem_at(url, format!("`{shown}` is not a URL; write one such as `https://idp.example/jwks.json`"));
            return;
        }
    };
    let host = parsed.host().unwrap_or_default();
    if parsed.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        section.problem_at(url, "a URL with a user name or password in it is not accepted; remove them");
    }
    match parsed.scheme_str() {
        Some("https") => {}
        Some("http") if allow_http || is_loopback(host) => {}
        Some("http") => section.problem_at(
            url,
            format!(
                "`{shown}` is plain HTTP to another machine: whoever is on the way could {danger}; write \
                 `https`, or set `{switch}: true` where the network itself is trusted"
            ),
        ),
        _ => section.problem_at(url, format!("`{shown}` is not a URL that starts with `https://`")),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// `application/AT+JWT` and `at+jwt` are one media type (RFC 7515 §4.1.9).
fn normal_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").unwrap_or(&typ).to_owned()
}

fn plain(texts: Vec<Text>) -> Vec<String> {
    texts.into_iter().map(|text| text.text).collect()
}
