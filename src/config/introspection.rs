//! `introspection` of one issuer: where and how it is asked about its tokens. Refuses credentials that stand in the file
//! itself, more of them than one, and none; what asks about nothing is refused by the profile.

use std::time::Duration;

use super::{
    issuers::check_url,
    problem::{Code, list},
    section::{Section, Text},
    transport,
};
use crate::{
    fetch,
    token::{ClientAuthentication, IntrospectionEndpoint, IntrospectionSettings, JwtOpinion, Secret, SecretSource},
};

/// The names of RFC 7591 §2, and RFC 7662's bearer token.
const AUTHENTICATIONS: [(&str, Kind); 5] = [
    ("client_secret_basic", Kind::Basic),
    ("client_secret_post", Kind::Post),
    ("bearer", Kind::Bearer),
    ("private_key_jwt", Kind::PrivateKey),
    ("tls_client_auth", Kind::Certificate),
];
const OPINIONS: [(&str, JwtOpinion); 2] = [("never", JwtOpinion::Never), ("always", JwtOpinion::Always)];
const PRESENCES: [(&str, bool); 2] = [("required", false), ("optional", true)];
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Basic,
    Post,
    Bearer,
    PrivateKey,
    Certificate,
}

/// Reads the section; `None` when it is not there, or has no usable credentials.
pub(super) fn read(issuer: &mut Section<'_>, has_discovery: bool) -> Option<IntrospectionSettings> {
    let is_written = issuer.has("introspection");
    let mut section = issuer.section("introspection");
    let is_written = is_written && section.is_mapping();
    let default = IntrospectionSettings::default();
    let http = transport::read(
        &mut section,
        &fetch::Settings {
            timeout: default.timeout,
            max_body_bytes: default.max_bytes,
            allow_http: default.allow_http,
            ..fetch::Settings::default()
        },
    );
    let url = section.text("url");
    let client_id = section.text("client_id");
    let settings = IntrospectionSettings {
        endpoint: url.as_ref().map_or(IntrospectionEndpoint::Discovered, |url| {
            check_url(
                &section,
                url,
                http.allow_http,
                "introspection.allow_http",
                "read the tokens and answer in its place",
            );
            IntrospectionEndpoint::Url(url.text.clone())
        }),
        client_id: client_id.map(|text| text.text).unwrap_or_default(),
        opaque: section.flag("opaque", default.opaque),
        jwt: section.choice("jwt", &OPINIONS, default.jwt),
        signed: section.flag("signed", default.signed),
        optional_audience: section.choice("audience", &PRESENCES, default.optional_audience),
        optional_expiry: section.choice("expiry", &PRESENCES, default.optional_expiry),
        cache_ttl: section.duration("cache_ttl", default.cache_ttl, Duration::ZERO..=SECOND * 300),
        inactive_ttl: section.duration("inactive_ttl", default.inactive_ttl, Duration::ZERO..=SECOND * 300),
        concurrency: section.count("concurrency", default.concurrency, 1..=1024),
        timeout: http.timeout,
        max_bytes: http.max_body_bytes,
        allow_http: http.allow_http,
        ca_file: http.ca_file,
        client_certificate: http.client_certificate.zip(http.client_key),
        authentication: default.authentication,
    };
    if is_written && url.is_none() && !has_discovery && !section.concerns("url") {
        let message = "it is not set, and without `discovery` the issuer's metadata is not read; write the URL";
        section.problem(Code::MissingKey, "url", message);
    }
    let authentication = read_authentication(&mut section, is_written);
    section.finish();
    let authentication = authentication.filter(|_| is_written)?;
    Some(IntrospectionSettings { authentication, ..settings })
}

/// One way to show who we are, with what it needs and nothing else.
fn read_authentication(section: &mut Section<'_>, is_written: bool) -> Option<ClientAuthentication> {
    let kind = section.choice("authentication", &AUTHENTICATIONS.map(|(name, kind)| (name, Some(kind))), None);
    let secret = section.secret("client_secret");
    let (secret_file, token_file, key_file) =
        (section.text("client_secret_file"), section.text("token_file"), section.text("private_key_file"));
    let given: Vec<&str> = [
        ("client_secret", section.concerns("client_secret") || secret.is_some()),
        ("client_secret_file", secret_file.is_some()),
        ("token_file", token_file.is_some()),
        ("private_key_file", key_file.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, is_given)| is_given.then_some(name))
    .collect();
    if !is_written || section.concerns("authentication") || section.concerns("client_secret") {
        return None;
    }
    let kind = kind.unwrap_or(match given.as_slice() {
        ["token_file"] => Kind::Bearer,
        ["private_key_file"] => Kind::PrivateKey,
        _ => Kind::Basic,
    });
    let from_file = |text: Option<Text>| text.map(|text| SecretSource::File(section.existing(&text)));
    let source = match (kind, given.as_slice()) {
        (Kind::Basic | Kind::Post, ["client_secret"]) => secret.map(|text| given_secret(section, &text)),
        (Kind::Basic | Kind::Post, ["client_secret_file"]) => from_file(secret_file),
        (Kind::Bearer, ["token_file"]) => from_file(token_file),
        (Kind::PrivateKey, ["private_key_file"]) => from_file(key_file),
        _ => None,
    };
    let authentication = match (kind, source) {
        (Kind::Basic, Some(source)) => Some(ClientAuthentication::Basic(source)),
        (Kind::Post, Some(source)) => Some(ClientAuthentication::Post(source)),
        (Kind::Bearer, Some(source)) => Some(ClientAuthentication::Bearer(source)),
        (Kind::PrivateKey, Some(source)) => Some(ClientAuthentication::PrivateKey(source)),
        (Kind::Certificate, None) if given.is_empty() => Some(ClientAuthentication::Certificate),
        _ => None,
    };
    if authentication.is_none() {
        let name = AUTHENTICATIONS.iter().find(|(_, of)| *of == kind).map_or("", |(name, _)| name);
        let needs = match kind {
            Kind::Basic | Kind::Post => "`client_secret_file`, or `client_secret: ${NAME}`, and nothing else",
            Kind::Bearer => "`token_file` and nothing else",
            Kind::PrivateKey => "`private_key_file` and nothing else",
            Kind::Certificate => "`client_certificate` and `client_key`, and no secret",
        };
        let found = if given.is_empty() { "neither is set".to_owned() } else { format!("given: {}", list(&given)) };
        let message = format!("`{name}` needs {needs}; {found}");
        section.problem(Code::InvalidValue, given.first().copied().unwrap_or("authentication"), message);
    }
    authentication
}

fn given_secret(section: &Section<'_>, text: &Text) -> SecretSource {
    let secret = Secret::new(&text.text);
    if secret.is_empty() {
        section.problem_at(text, "it is empty");
    }
    SecretSource::Text(secret)
}
