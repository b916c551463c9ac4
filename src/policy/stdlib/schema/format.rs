//! The formats that strings of a schema may have, as OPA's library checks them. One that is not known fits everything.

use std::net::IpAddr;

use chrono::{NaiveDate, NaiveTime};

use super::super::{go_url, regex};
use super::BuiltinError;

/// A label of a host's name.
const LABEL: &str = r"([a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])";
const UUID: &str = "^(?i)[a-f0-9]{8}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{4}-[a-f0-9]{12}$";
const POINTER: &str = "^(?:/(?:[^~/]|~0|~1)*)*$";
const RELATIVE_POINTER: &str = "^(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^~/]|~0|~1)*)*)$";
const TEMPLATE: &str = "^([^{]*({[^}]*})?)*$";

pub(super) fn fits(format: &str, text: &str) -> Result<bool, BuiltinError> {
    let address = || text.parse::<IpAddr>().is_ok();
    let url = || go_url::parse(text).is_ok() && !text.contains('\\');
    Ok(match format {
        "date" => is_date(text),
        "time" => is_time(text),
        "date-time" => is_time(text) || is_date(text) || is_moment(text),
        "hostname" => text.len() < 256 && regex::matches(&format!(r"^{LABEL}(\.{LABEL})*$"), text)?,
        "email" | "idn-email" => is_email(text),
        "ipv4" => text.contains('.') && address(),
        "ipv6" => text.contains(':') && address(),
        "uri" | "iri" => url() && has_scheme(text),
        "uri-reference" | "iri-reference" => url(),
        "uri-template" => url() && regex::matches(TEMPLATE, text.split(['?', '#']).next().unwrap_or_default())?,
        "uuid" => regex::matches(UUID, text)?,
        "regex" => text.is_empty() || regex::is_pattern(text)?,
        "json-pointer" => regex::matches(POINTER, text)?,
        "relative-json-pointer" => regex::matches(RELATIVE_POINTER, text)?,
        _ => true,
    })
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && NaiveDate::parse_from_str(text, "%Y-%m-%d").is_ok()
}

/// `15:04:05`, with a fraction and an offset or without.
fn is_time(text: &str) -> bool {
    let (clock, zone) = text.split_at_checked(8).unwrap_or((text, ""));
    let fraction = zone.strip_prefix(['.', ',']).map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let zone = fraction.unwrap_or(zone);
    NaiveTime::parse_from_str(clock, "%H:%M:%S").is_ok() && !clock.ends_with(":60") && is_zone(zone, true)
}

fn is_zone(zone: &str, may_lack: bool) -> bool {
    match zone.split_at_checked(1) {
        None => may_lack,
        Some(("Z", "")) => true,
        Some(("+" | "-", offset)) => {
            let digits = |text: &str, most: u32| text.len() == 2 && text.parse::<u32>().is_ok_and(|n| n <= most);
            offset.split_once(':').is_some_and(|(hours, minutes)| digits(hours, 24) && digits(minutes, 60))
        }
        Some(_) => false,
    }
}

fn is_moment(text: &str) -> bool {
    text.split_once('T').is_some_and(|(date, time)| {
        is_date(date) && is_time(time) && (time.ends_with('Z') || time.contains(['+', '-']))
    })
}

fn has_scheme(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(inner)
}

/// One address, plain or in angle brackets behind a name.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>').and_then(|text| text.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |text: &str| {
        let part = |part: &str| {
            let word = |c: char| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii();
            !part.is_empty() && part.chars().all(word)
        };
        text.split('.').all(part)
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain.starts_with('[') && domain.ends_with(']');
    (quoted || atom(local)) && (literal || atom(domain))
}
