//! What issuers say after a token was issued: `issuers[].logout`, `issuers[].status_lists`, `token.status_lists` and `events`.
//! It refuses what nobody could deliver (logout tokens without a door), and transmitters whose keys or tokens are nobody's.

use std::time::Duration;

use super::{
    doors::parse_listen,
    issuers::{read_algorithms, read_keys},
    problem::Code,
    section::{Section, Text},
    transport,
    tree::shorten,
};
use crate::{
    reload::KeySource,
    revocation::Credentials,
    serve::{self, EventsSettings, Listen},
    status_lists,
    token::{
        IssuerProfile, KeyOrigin, LogoutEnds, LogoutSettings, Origin, ProfileSettings, SecretSource, StatusListUse,
        Transmitter,
    },
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// `issuers[].logout`.
pub(super) fn read_logout(issuer: &mut Section<'_>) -> Option<LogoutSettings> {
    let is_written = issuer.has("logout");
    let mut section = issuer.section("logout");
    let default = LogoutSettings::default();
    let audiences = read_audience(&mut section, is_written, "the client id that logout tokens are made for");
    let types: Vec<&str> = default.types.iter().map(String::as_str).collect();
    let types = section.texts("types", &types);
    let ends = [("session", LogoutEnds::Session), ("subject", LogoutEnds::Subject)];
    let settings = LogoutSettings {
        audiences,
        types: types.into_iter().map(|text| text.text.to_ascii_lowercase()).collect(),
        ends: section.choice("ends", &ends, LogoutEnds::Session),
    };
    section.finish();
    is_written.then_some(settings)
}

/// `issuers[].status_lists`.
pub(super) fn read_status_use(issuer: &mut Section<'_>) -> StatusListUse {
    let mut section = issuer.section("status_lists");
    let check = section.flag("check", true);
    let texts = section.texts("origins", &[]);
    let origins = texts.iter().filter_map(|text| match text.text.parse::<Origin>() {
        Ok(origin) => Some(origin),
        Err(error) => {
            section.problem_at(text, format!("`{}`: {error}", shorten(&text.text)));
            None
        }
    });
    let origins = origins.collect();
    section.finish();
    if check { StatusListUse::Check(origins) } else { StatusListUse::Ignore }
}

/// `token.status_lists`.
pub(super) fn read_status_lists(token: &mut Section<'_>) -> status_lists::Settings {
    let default = status_lists::Settings::default();
    let mut section = token.section("status_lists");
    let bytes = section.size("bytes", default.bytes, 1 << 10..=4 << 30);
    let settings = status_lists::Settings {
        lists: section.count("lists", default.lists, 1..=10_000),
        bytes,
        list_bytes: section.size("list_bytes", default.list_bytes.min(bytes), 1 << 10..=bytes),
        lifetimes: status_lists::Lifetimes {
            ttl: section.duration("refresh", default.lifetimes.ttl, SECOND * 10..=DAY),
            max_stale: section.duration("max_stale", default.lifetimes.max_stale, Duration::ZERO..=DAY),
            ..default.lifetimes
        },
        patience: section.duration("patience", default.patience, Duration::ZERO..=SECOND * 60),
        transport: transport::read(&mut section, &default.transport),
    };
    section.finish();
    settings
}

/// `events`: the door, and who may knock. Transmitters that are no issuers bring keys of their own, and are added to
/// `profiles` for these alone.
pub(super) fn read_events(
    root: &mut Section<'_>,
    mode: u32,
    doors: &serve::Settings,
    profiles: &mut Vec<(IssuerProfile, KeySource)>,
) -> (Option<EventsSettings>, Vec<Transmitter>) {
    let mut section = root.section("events");
    let listen = section.text("listen");
    let is_open = listen.is_some() || section.concerns("listen");
    let listen = listen.as_ref().and_then(|text| read_listen(&section, text, mode, doors));
    let file = section.text("authorization_file");
    let credential = file.as_ref().map(|text| {
        let source = SecretSource::File(section.existing(text));
        if !section.concerns("authorization_file")
            && let Err(error) = Credentials::examine(&source)
        {
            section.problem_at(text, error.to_string());
        }
        source
    });
    let credentials = Credentials::new(credential.into_iter().collect());
    let mut transmitters: Vec<Transmitter> = Vec::new();
    for mut item in section.sections("transmitters") {
        if !item.is_mapping() {
            continue;
        }
        if let Some((transmitter, keys)) = read_transmitter(&mut item, profiles) {
            if transmitters.iter().any(|other| other.issuer == transmitter.issuer) {
                let message = format!("`{}` stands in the list twice; a transmitter has one entry", transmitter.issuer);
                item.problem(Code::DuplicateKey, "issuer", message);
            }
            transmitters.push(transmitter);
            profiles.extend(keys);
        }
        item.finish();
    }
    let has_logout = profiles.iter().any(|(profile, _)| profile.logout().is_some());
    if !is_open && (has_logout || !transmitters.is_empty()) {
        let who = if has_logout { "logout tokens (`issuers[].logout`)" } else { "events (`events.transmitters`)" };
        let message = format!("it is not set, so {who} could not be delivered; write an address that issuers reach");
        section.problem(Code::MissingKey, "listen", message);
    }
    section.finish();
    (listen.map(|listen| EventsSettings { listen, credentials }), transmitters)
}

fn read_listen(section: &Section<'_>, text: &Text, mode: u32, doors: &serve::Settings) -> Option<Listen> {
    let address = parse_listen(section, text, mode)?;
    let is_any_port = matches!(&address, Listen::Tcp(address) if address.port() == 0);
    if !is_any_port && (doors.listen.contains(&address) || doors.admin.as_ref() == Some(&address)) {
        let message = format!(
            "`{}` is an address of `listen` or `admin.listen` too; issuers never share one with applications and \
             operators, so choose another",
            shorten(&text.text)
        );
        section.problem_at(text, message);
    }
    Some(address)
}

/// One transmitter, and its keys when they are its own.
fn read_transmitter(
    section: &mut Section<'_>,
    profiles: &[(IssuerProfile, KeySource)],
) -> Option<(Transmitter, Option<(IssuerProfile, KeySource)>)> {
    let issuer = section.text("issuer");
    if issuer.is_none() && !section.concerns("issuer") {
        section.problem(
            Code::MissingKey,
            "issuer",
            "it is not set; write the exact `iss` of its security event tokens",
        );
    }
    let audiences = read_audience(section, true, "what its security event tokens name as `aud`");
    let tokens_of = section.text("tokens_of");
    let find = |name: &str| profiles.iter().map(|(profile, _)| profile).find(|profile| profile.issuer() == name);
    let own = issuer.as_ref().and_then(|text| find(&text.text));
    let (algorithms, leeway, keys) = if let Some(profile) = own {
        for key in ["jwks", "discovery", "algorithms", "leeway"] {
            if section.has(key) {
                let message = "this transmitter is one of `issuers`, and its keys and rules are those; remove it";
                section.problem(Code::InvalidValue, key, message);
            }
            drop(section.take(key));
        }
        (profile.algorithms().to_vec(), profile.leeway(), None)
    } else {
        let name = issuer.as_ref().map(|text| text.text.as_str()).unwrap_or_default();
        let discovery = section.flag_or_text("discovery");
        let keys = read_keys(section, name, discovery, true);
        let is_remote = keys.as_ref().is_some_and(KeySource::is_remote);
        let algorithms = read_algorithms(section, is_remote);
        let leeway = section.duration("leeway", SECOND * 30, Duration::ZERO..=SECOND * 300);
        (algorithms, leeway, keys)
    };
    let tokens_of = match (&tokens_of, &issuer, own) {
        (Some(text), _, _) => {
            if find(&text.text).is_none() {
                let message = format!("`{}` is not one of `issuers`", shorten(&text.text));
                section.problem_at(text, message);
            }
            text.text.clone()
        }
        (None, Some(issuer), Some(_)) => issuer.text.clone(),
        (None, _, _) => {
            if !section.concerns("tokens_of") && issuer.is_some() {
                let message = "it is not set; write which of `issuers` this transmitter speaks about";
                section.problem(Code::MissingKey, "tokens_of", message);
            }
            String::new()
        }
    };
    if section.has_problems() {
        return None;
    }
    let transmitter = Transmitter { issuer: issuer?.text, audiences, algorithms, leeway, tokens_of };
    let Some(source) = keys else { return own.map(|_| (transmitter, None)) };
    let settings = ProfileSettings {
        issuer: transmitter.issuer.clone(),
        audiences: transmitter.audiences.clone(),
        algorithms: transmitter.algorithms.clone(),
        leeway,
        key_origin: if source.is_remote() { KeyOrigin::Remote } else { KeyOrigin::Local },
        is_transmitter: true,
        ..ProfileSettings::default()
    };
    match IssuerProfile::new(settings) {
        Ok(profile) => Some((transmitter, Some((profile, source)))),
        Err(errors) => {
            for error in errors {
                let field = if error.field == "audiences" { "audience" } else { error.field };
                section.problem(Code::InvalidValue, field, error.message);
            }
            None
        }
    }
}

/// One or several; at least one where it is needed.
fn read_audience(section: &mut Section<'_>, is_needed: bool, what: &str) -> Vec<String> {
    let is_written = section.has("audience");
    let texts = section.text_or_texts("audience", "");
    if !is_written {
        if is_needed && !section.concerns("audience") {
            section.problem(Code::MissingKey, "audience", format!("it is not set; write {what}"));
        }
        return Vec::new();
    }
    if (texts.is_empty() || texts.iter().any(|text| text.text.is_empty())) && !section.concerns("audience") {
        section.problem(Code::InvalidValue, "audience", format!("it is empty; write {what}"));
    }
    texts.into_iter().map(|text| text.text).collect()
}
