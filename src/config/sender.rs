//! `token.dpop`, `token.client_certificate`, `token.resource` and `token.resource_metadata` → [`SenderSettings`]. It refuses
//! shared secrets for proofs, which anybody who checks one could also make.

use std::time::Duration;

use super::{
    issuers,
    problem::Code,
    section::{Section, Text},
    tree::shorten,
};
use crate::{
    serve::SenderSettings,
    token::{Algorithm, CertificateHeader, ProofOrigin, ProofRules},
};

/// RFC 9728 §3.
const METADATA: &str = "/.well-known/oauth-protected-resource";
const SECOND: Duration = Duration::from_secs(1);

/// Reads what the section `token` says about senders.
pub(super) fn read(token: &mut Section<'_>) -> SenderSettings {
    let default = SenderSettings::default();
    let mut dpop = token.section("dpop");
    let proofs = ProofRules {
        algorithms: read_algorithms(&mut dpop, &default.proofs.algorithms),
        window: dpop.duration("window", default.proofs.window, SECOND..=SECOND * 600),
        leeway: dpop.duration("leeway", default.proofs.leeway, Duration::ZERO..=SECOND * 300),
    };
    let requires_nonce = dpop.choice("nonce", &[("off", false), ("required", true)], default.requires_nonce);
    let replay_entries = dpop.count("replay_entries", default.replay_entries, 1_000..=10_000_000);
    let offers_dpop = dpop.flag("offer", default.offers_dpop);
    let external_url = dpop.text("external_url").and_then(|text| read_origin(&dpop, &text));
    dpop.finish();

    let mut certificate = token.section("client_certificate");
    let headers =
        [("none", None), ("xfcc", Some(CertificateHeader::Xfcc)), ("rfc9440", Some(CertificateHeader::Rfc9440))];
    let certificate_header = certificate.choice("header", &headers, default.certificate_header);
    certificate.finish();

    let resource = token.text("resource").filter(|text| is_url(token, text, "https://api.example.com"));
    let place = format!("https://api.example.com{METADATA}");
    let metadata = token.text("resource_metadata").filter(|text| is_url(token, text, &place));
    let resource = resource.map(|text| text.text);
    SenderSettings {
        proofs,
        requires_nonce,
        nonce_period: default.nonce_period,
        replay_entries,
        external_url,
        offers_dpop,
        certificate_header,
        resource_metadata: metadata.map(|text| text.text).or_else(|| resource.as_deref().and_then(metadata_of)),
        resource,
    }
}

fn read_algorithms(dpop: &mut Section<'_>, default: &[Algorithm]) -> Vec<Algorithm> {
    let names: Vec<&str> = default.iter().map(|algorithm| algorithm.name()).collect();
    let names = dpop.texts("algorithms", &names);
    if names.is_empty() && !dpop.concerns("algorithms") {
        let message = "it is empty, so no proof could pass; leave it out for the defaults, or name at least one";
        dpop.problem(Code::InvalidValue, "algorithms", message);
    }
    let mut algorithms = Vec::new();
    for name in &names {
        match issuers::algorithm(dpop, name) {
            Some(algorithm) if algorithm.is_symmetric() => {
                let message = format!("`{}` signs with a shared secret, which proves nothing; remove it", name.text);
                dpop.problem_at(name, message);
            }
            Some(algorithm) if !algorithms.contains(&algorithm) => algorithms.push(algorithm),
            _ => {}
        }
    }
    algorithms
}

fn read_origin(dpop: &Section<'_>, text: &Text) -> Option<ProofOrigin> {
    let origin = ProofOrigin::parse(&text.text);
    if origin.is_none() {
        let message = format!(
            "`{}` is not the scheme and host that clients use; write it without a path, such as \
             `https://api.example.com`",
            shorten(&text.text)
        );
        dpop.problem_at(text, message);
    }
    origin
}

/// It goes into a quoted string, and what it names is compared byte by byte.
fn is_url(token: &Section<'_>, text: &Text, example: &str) -> bool {
    let is_plain = text.text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>?#".contains(&byte));
    let uri = text.text.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    let is_web = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")));
    if !is_plain || !is_web {
        let message =
            format!("`{}` is not a URL without query and fragment; write one such as `{example}`", shorten(&text.text));
        token.problem_at(text, message);
    }
    is_plain && is_web
}

/// RFC 9728 §3.1: between the host and the path of the resource.
fn metadata_of(resource: &str) -> Option<String> {
    let (scheme, rest) = resource.split_once("://")?;
    let (host, path) = rest.split_at_checked(rest.find('/').unwrap_or(rest.len()))?;
    Some(format!("{scheme}://{host}{METADATA}{}", if path == "/" { "" } else { path }))
}

#[cfg(test)]
mod tests {
    use super::metadata_of;

    #[test]
    fn the_metadata_are_between_host_and_path() {
        for (resource, want) in [
            ("https://a.example", "https://a.example/.well-known/oauth-protected-resource"),
            ("https://a.example/", "https://a.example/.well-known/oauth-protected-resource"),
            ("https://a.example:8443/b/c", "https://a.example:8443/.well-known/oauth-protected-resource/b/c"),
        ] {
            assert_eq!(metadata_of(resource).as_deref(), Some(want));
        }
    }
}
