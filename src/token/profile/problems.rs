//! What is wrong with the settings of a profile: everything that would make it insecure, contradict itself, or let no token
//! pass. It changes nothing.

use std::{collections::BTreeSet, time::Duration};

use super::{
    super::{header::other_kind, introspection::IntrospectionSettings, logout::LogoutSettings},
    KeyOrigin, ProfileError, ProfileSettings,
};

/// The longest clock skew that a profile may grant.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Names with a registered meaning: another claim must not pose as one of them.
const REGISTERED: [&str; 14] =
    ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf", "act", "azp", "client_id", "scope", "scp", "scopes"];

/// All problems, in the order of the fields. `types` is folded already.
pub(super) fn of(settings: &ProfileSettings) -> Vec<ProfileError> {
    let mut problems = Problems::default();
    problems.check_names(settings);
    problems.check_algorithms(settings);
    problems.check_types(&settings.types);
    problems.check_times(settings);
    problems.check_projection(settings);
    problems.0.extend(settings.logout.as_ref().map_or_else(Vec::new, LogoutSettings::problems));
    problems.check_introspection(settings);
    problems.0
}

#[derive(Default)]
struct Problems(Vec<ProfileError>);

impl Problems {
    fn add(&mut self, field: &'static str, message: impl Into<String>) {
        self.0.push(ProfileError { field, message: message.into() });
    }

    fn check_names(&mut self, settings: &ProfileSettings) {
        if settings.issuer.is_empty() {
            self.add("issuer", "the issuer is empty; give the exact `iss` of its tokens");
        } else if settings.issuer.chars().any(|c| c.is_whitespace() || c.is_control()) {
            self.add("issuer", "the issuer has white space or a control character; it must equal `iss` exactly");
        }
        if settings.audiences.is_empty() {
            self.add("audiences", "no audience: tokens for every other service would be accepted; name at least one");
        }
        self.check_list("audiences", "audience", &settings.audiences);
        self.check_list("required_claims", "claim", &settings.required_claims);
    }

    fn check_algorithms(&mut self, settings: &ProfileSettings) {
        let algorithms = &settings.algorithms;
        if settings.key_origin == KeyOrigin::Nowhere {
            let is_opaque = settings.introspection.as_ref().is_some_and(IntrospectionSettings::needs_no_keys);
            if !algorithms.is_empty() || !is_opaque {
                self.add("jwks", "only an issuer all of whose tokens are opaque, with unsigned answers, needs no keys");
            }
        } else if algorithms.is_empty() {
            self.add("algorithms", "no algorithm; name those that the issuer signs with, such as RS256 or ES256");
        }
        for (index, algorithm) in algorithms.iter().enumerate() {
            if algorithms.iter().take(index).any(|earlier| earlier == algorithm) {
                self.add("algorithms", format!("`{algorithm}` is listed twice"));
            }
        }
        let symmetric = algorithms.iter().find(|algorithm| algorithm.is_symmetric());
        let asymmetric = algorithms.iter().find(|algorithm| !algorithm.is_symmetric());
        if let (Some(symmetric), KeyOrigin::Remote) = (symmetric, settings.key_origin) {
            self.add(
                "algorithms",
                format!("`{symmetric}` needs a shared secret, and a remote JWKS is public; use a local key file"),
            );
        }
        if let (Some(symmetric), Some(asymmetric)) = (symmetric, asymmetric) {
            self.add(
                "algorithms",
                format!("`{symmetric}` and `{asymmetric}` together invite algorithm confusion; use either secrets or key pairs"),
            );
        }
    }

    fn check_types(&mut self, types: &[String]) {
        if types.is_empty() {
            self.add(
                "types",
                "no type; name the `typ` of access tokens: `at+jwt`, `jwt`, `none` for a header without, or `rfc9068`",
            );
        }
        self.check_list("types", "type", types);
        for name in types {
            if let Some(kind) = other_kind(name) {
                self.add("types", format!("`{name}` is {kind}, not an access token"));
            }
        }
    }

    fn check_times(&mut self, settings: &ProfileSettings) {
        if settings.leeway > MAX_LEEWAY {
            let seconds = settings.leeway.as_secs();
            self.add("leeway", format!("{seconds} s is more than 300 s; synchronise the clocks instead"));
        }
        if settings.max_age.is_some_and(|age| age.as_secs() == 0) {
            self.add("max_age", "no token is younger than a second; leave it out for tokens of any age");
        }
        if settings.max_lifetime.as_secs() == 0 {
            self.add("max_lifetime", "no token lives for less than a second; the default is 24 h");
        }
    }

    fn check_projection(&mut self, settings: &ProfileSettings) {
        self.check_list("claims.keep", "claim", &settings.keep);
        let mut targets = BTreeSet::new();
        for (from, to) in &settings.rename {
            if from.is_empty() || to.is_empty() {
                self.add("claims.rename", format!("`{from}` → `{to}`: a claim's name is empty"));
            }
            if settings.keep.contains(from) {
                self.add("claims.rename", format!("`{from}` is both kept and renamed; list it once"));
            }
            if settings.keep.contains(to) {
                self.add("claims.rename", format!("`{from}` → `{to}`: `{to}` is kept under its own name"));
            }
            if REGISTERED.contains(&to.as_str()) {
                self.add(
                    "claims.rename",
                    format!("`{from}` → `{to}`: `{to}` has a registered meaning; choose another name"),
                );
            }
            if !targets.insert(to) {
                self.add("claims.rename", format!("two claims are renamed to `{to}`"));
            }
        }
    }

    fn check_introspection(&mut self, settings: &ProfileSettings) {
        if let Some(introspection) = &settings.introspection {
            for (field, message) in introspection.problems() {
                self.add(field, message);
            }
        }
    }

    fn check_list(&mut self, field: &'static str, what: &str, names: &[String]) {
        for (index, name) in names.iter().enumerate() {
            if name.is_empty() {
                self.add(field, format!("an empty {what}"));
            } else if names.iter().take(index).any(|earlier| earlier == name) {
                self.add(field, format!("`{name}` is listed twice"));
            }
        }
    }
}
