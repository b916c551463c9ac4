//! `WWW-Authenticate`: what a client that was refused should do. One challenge for each scheme that an issuer's tokens may
//! be sent with; the one that the client used carries the error. Nothing that stands in one can end its quotes.

use http::HeaderValue;

use super::SenderSettings;
use crate::token::{Profiles, Scheme, SenderConstraint};

/// What all challenges have in common.
#[derive(Debug)]
pub(super) struct Challenges {
    realm: String,
    /// The algorithms of DPoP proofs (RFC 9449 §7.1).
    algorithms: String,
    /// RFC 9728 §5.1.
    resource_metadata: Option<String>,
    offers_dpop: bool,
}

// === impl Challenges ===

impl Challenges {
    pub(super) fn new(realm: &str, sender: &SenderSettings) -> Self {
        let algorithms: Vec<&str> = sender.proofs.algorithms.iter().map(|algorithm| algorithm.name()).collect();
        Self {
            realm: realm.to_owned(),
            algorithms: algorithms.join(" "),
            resource_metadata: sender.resource_metadata.clone(),
            offers_dpop: sender.offers_dpop,
        }
    }

    /// The challenges to a client that used `used`, whose parameters belong to that scheme when it is offered, and else to
    /// the first one that is. At least one.
    pub(super) fn values(
        &self,
        profiles: &Profiles,
        used: Option<Scheme>,
        parameters: &[(&str, &str)],
    ) -> Vec<HeaderValue> {
        let any = |test: fn(SenderConstraint) -> bool| profiles.iter().any(|profile| test(profile.sender_constraint()));
        let wants_dpop = any(|it| matches!(it, SenderConstraint::Required | SenderConstraint::Dpop));
        let only_dpop = wants_dpop && !any(|it| it != SenderConstraint::Dpop);
        let offers_dpop = wants_dpop || self.offers_dpop || used == Some(Scheme::Dpop);
        let schemes: &[Scheme] = match (only_dpop, offers_dpop) {
            (true, _) => &[Scheme::Dpop],
            (false, false) => &[Scheme::Bearer],
            // The one with the error comes first: some clients look no further.
            (false, true) if used == Some(Scheme::Dpop) => &[Scheme::Dpop, Scheme::Bearer],
            (false, true) => &[Scheme::Bearer, Scheme::Dpop],
        };
        let values = schemes
            .iter()
            .enumerate()
            .map(|(place, scheme)| self.value(*scheme, if place == 0 { parameters } else { &[] }));
        values.collect()
    }

    fn value(&self, scheme: Scheme, parameters: &[(&str, &str)]) -> HeaderValue {
        let (name, algorithms) = match scheme {
            Scheme::Bearer => ("Bearer", None),
            Scheme::Dpop => ("DPoP", Some(("algs", self.algorithms.as_str()))),
        };
        let metadata = self.resource_metadata.as_deref().map(|url| ("resource_metadata", url));
        let all = [("realm", self.realm.as_str())].into_iter().chain(parameters.iter().copied());
        let all: Vec<String> =
            all.chain(algorithms).chain(metadata).map(|(name, value)| format!("{name}={}", quoted(value))).collect();
        // All of it is visible ASCII.
        HeaderValue::from_str(&format!("{name} {}", all.join(", "))).unwrap_or(HeaderValue::from_static("Bearer"))
    }
}

/// RFC 9110 §5.6.4. Characters that cannot stand in a quoted string without an escape are dropped: clients differ in how
/// they read one.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect();
    format!("\"{plain}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::{IssuerProfile, ProfileSettings};

    fn profiles(constraints: &[SenderConstraint]) -> Profiles {
        let profile = |(index, constraint): (usize, &SenderConstraint)| {
            IssuerProfile::new(ProfileSettings {
                issuer: format!("https://idp{index}.example"),
                audiences: vec!["a".to_owned()],
                sender_constraint: *constraint,
                ..ProfileSettings::default()
            })
            .unwrap()
        };
        Profiles::new(constraints.iter().enumerate().map(profile).collect()).unwrap()
    }

    #[test]
    fn the_offer_is_what_the_issuers_take() {
        use SenderConstraint::{Dpop, Mtls, Optional, Required};
        let (bearer, dpop) = (Some(Scheme::Bearer), Some(Scheme::Dpop));
        type Case<'c> = (&'c [SenderConstraint], bool, Option<Scheme>, &'c [&'c str]);
        let cases: &[Case<'_>] = &[
            (&[Optional], false, None, &["Bearer"]),
            (&[Optional], false, bearer, &["Bearer!"]),
            (&[Optional], false, dpop, &["DPoP!", "Bearer"]),
            (&[Optional], true, None, &["Bearer", "DPoP"]),
            (&[Mtls], false, bearer, &["Bearer!"]),
            (&[Required], false, None, &["Bearer", "DPoP"]),
            (&[Required], false, bearer, &["Bearer!", "DPoP"]),
            (&[Dpop], false, None, &["DPoP"]),
            (&[Dpop], false, bearer, &["DPoP!"]),
            (&[Dpop, Optional], false, bearer, &["Bearer!", "DPoP"]),
            (&[], false, None, &["Bearer"]),
        ];
        for (constraints, offers_dpop, used, want) in cases {
            let sender = SenderSettings { offers_dpop: *offers_dpop, ..SenderSettings::default() };
            let parameters: &[(&str, &str)] = if used.is_some() { &[("error", "e")] } else { &[] };
            let got: Vec<String> = Challenges::new("r", &sender)
                .values(&profiles(constraints), *used, parameters)
                .iter()
                .map(|value| {
                    let text = value.to_str().unwrap();
                    let error = if text.contains("error=\"e\"") { "!" } else { "" };
                    format!("{}{error}", text.split(' ').next().unwrap())
                })
                .collect();
            assert_eq!(&got, want, "{constraints:?} {offers_dpop} {used:?}");
        }
    }

    #[test]
    fn a_challenge_is_written_as_the_standards_have_it() {
        let url = "https://api.example/.well-known/oauth-protected-resource";
        let sender = SenderSettings { resource_metadata: Some(url.to_owned()), ..SenderSettings::default() };
        let challenges = Challenges::new("claimgate", &sender);
        let values = challenges.values(&profiles(&[]), Some(Scheme::Dpop), &[("error", "use_dpop_nonce")]);
        let want = [
            format!(
                "DPoP realm=\"claimgate\", error=\"use_dpop_nonce\", algs=\"ES256 ES384 ES512 EdDSA RS256 PS256\", \
                 resource_metadata=\"{url}\""
            ),
            format!("Bearer realm=\"claimgate\", resource_metadata=\"{url}\""),
        ];
        assert_eq!(values, want);
    }

    #[test]
    fn nothing_can_break_out_of_its_quotes() {
        let challenges = Challenges::new("a\"b\\c\r\nd é", &SenderSettings::default());
        let values = challenges.values(&profiles(&[]), None, &[("scope", "x\", error=\"y")]);
        assert_eq!(values, ["Bearer realm=\"abcd \", scope=\"x, error=y\""]);
    }
}
