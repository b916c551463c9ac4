//! How a server of the operator's own choosing is asked: time, size, plain HTTP, certificates. The same keys wherever
//! claimgate sends requests of its own.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

use super::{
    problem::Code,
    section::{Section, Text},
};
use crate::fetch::{Error, Settings};

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const SIZE: RangeInclusive<usize> = 1 << 10..=16 << 20;

/// Reads `timeout`, `max_bytes`, `allow_http`, `ca_file`, `client_certificate` and `client_key`, and tries the files.
pub(super) fn read(section: &mut Section<'_>, default: &Settings) -> Settings {
    let timeout = section.duration("timeout", default.timeout, TIMEOUT);
    let (ca, certificate, key) =
        (section.text("ca_file"), section.text("client_certificate"), section.text("client_key"));
    let path = |section: &Section<'_>, text: &Option<Text>| -> Option<PathBuf> {
        text.as_ref().map(|text| section.existing(text))
    };
    let settings = Settings {
        connect_timeout: default.connect_timeout.min(timeout),
        timeout,
        max_body_bytes: section.size("max_bytes", default.max_body_bytes, SIZE),
        allow_http: section.flag("allow_http", default.allow_http),
        ca_file: path(section, &ca),
        client_certificate: path(section, &certificate),
        client_key: path(section, &key),
        idle_connections: default.idle_connections,
    };
    match (&certificate, &key) {
        (Some(_), None) => {
            let message = "`client_key` is not set; a certificate is shown only by who has its key";
            section.problem(Code::MissingKey, "client_certificate", message);
        }
        (None, Some(_)) => {
            let message = "`client_certificate` is not set; a key alone says nothing";
            section.problem(Code::MissingKey, "client_key", message);
        }
        _ => {}
    }
    let is_clean = ["ca_file", "client_certificate", "client_key"].iter().all(|key| !section.concerns(key));
    if is_clean && let Err(error) = settings.check_files() {
        let place = match &error {
            Error::File { setting, .. } => *setting,
            _ => "ca_file",
        };
        let message = match &error {
            Error::File { path, reason, .. } => format!("`{}`: {reason}", path.display()),
            other => other.to_string(),
        };
        section.problem(Code::InvalidValue, place, message);
    }
    settings
}
