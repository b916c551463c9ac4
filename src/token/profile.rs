//! The rules for one issuer, and the check that they cannot be insecure: a profile without audiences, without
//! algorithms, with `none`, with a secret fetched over the network or with an unbounded clock skew does not exist.

mod problems;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::{Map, Value};

use super::{
    algorithm::Algorithm,
    binding::SenderConstraint,
    error::{TokenError, Untrusted},
    header::{Header, fold_type},
    introspection::IntrospectionSettings,
    logout::LogoutSettings,
    status_list::StatusListUse,
    time::TimeRules,
};

/// The rules for one `iss`, as written by the operator and not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileSettings {
    /// Exact `iss`.
    pub issuer: String,
    /// Accepted `aud` values; at least one.
    pub audiences: Vec<String>,
    /// Accepted algorithms; at least one. A key without `alg` is bound to the first that fits it, RS256 before others.
    pub algorithms: Vec<Algorithm>,
    /// Accepted `typ` values: `at+jwt`, `jwt`. Case and a leading `application/` do not count. Three words in the list
    /// are no types: `none` accepts a header without `typ`, `jwt-or-at+jwt` stands for both, and `rfc9068` for `at+jwt`
    /// with the claims that RFC 9068 §2.2 requires: `sub`, `client_id`, `iat` and `jti`.
    pub types: Vec<String>,
    /// Clock skew; at most 300 s.
    pub leeway: Duration,
    /// Longest accepted `exp - iat` (or `exp - now` when there is no `iat`).
    pub max_lifetime: Duration,
    /// Longest time since `iat`, which must be there then; `None`: any.
    pub max_age: Option<Duration>,
    /// Most claims; default: as many as [`Limits`](super::Limits) let through.
    pub max_claims: usize,
    /// Most elements of any one list, at whatever depth; default: as many as [`Limits`](super::Limits) let through.
    pub max_array: usize,
    /// Claims that must be there besides `iss`, `aud`, `exp`.
    pub required_claims: Vec<String>,
    /// Projection: claims that policy may see under `input.token.claims`.
    pub keep: Vec<String>,
    /// Projection: from → to; implies keeping `from`.
    pub rename: BTreeMap<String, String>,
    /// Must tokens be bound to their sender?
    pub sender_constraint: SenderConstraint,
    /// The claim that names the tenant, for revocations of a whole tenant. Need not be projected.
    pub tenant_claim: Option<String>,
    /// Where the keys come from: decides whether HMAC and private keys are allowed.
    pub key_origin: KeyOrigin,
    /// How logout tokens of this issuer are understood; `None`: it sends none.
    pub logout: Option<LogoutSettings>,
    /// What becomes of tokens that name a status list.
    pub status_lists: StatusListUse,
    /// It sends security event tokens and nothing else: no access token of it is accepted.
    pub is_transmitter: bool,
    /// How the issuer is asked about its tokens; `None`: it is not.
    pub introspection: Option<IntrospectionSettings>,
}

/// Local keys may be secrets; remote ones never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// There are none, and so no algorithm: no JWT of this issuer passes. Its tokens are opaque.
    Nowhere,
    /// A file or inline in the configuration.
    Local,
    /// A URL or discovery.
    Remote,
}

/// A checked profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerProfile {
    settings: ProfileSettings,
    accepts_no_type: bool,
}

/// What is wrong with a profile. `field` is the configuration key below the issuer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProfileError {
    /// The configuration key below the issuer: `audiences`, `claims.rename`, …
    pub field: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

/// In `types`: a header without `typ` is accepted.
pub(super) const NO_TYPE: &str = "none";

/// In `types`: the two usual types.
const EITHER_TYPE: &str = "jwt-or-at+jwt";

/// In `types`: access tokens as RFC 9068 §2 has them.
const STRICT: &str = "rfc9068";

/// What RFC 9068 §2.2 requires besides `iss`, `aud` and `exp`, which every profile does.
const STRICT_CLAIMS: [&str; 4] = ["sub", "client_id", "iat", "jti"];

impl Default for ProfileSettings {
    /// No issuer and no audience (so not yet a profile), RS256 and ES256, both kinds of access token, 30 s of leeway and
    /// a lifetime of at most a day.
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audiences: Vec::new(),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            types: vec!["at+jwt".to_owned(), "jwt".to_owned()],
            leeway: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(24 * 3600),
            max_age: None,
            max_claims: usize::MAX,
            max_array: usize::MAX,
            required_claims: Vec::new(),
            keep: Vec::new(),
            rename: BTreeMap::new(),
            sender_constraint: SenderConstraint::Optional,
            tenant_claim: None,
            key_origin: KeyOrigin::Local,
            logout: None,
            status_lists: StatusListUse::default(),
            is_transmitter: false,
            introspection: None,
        }
    }
}

// === impl IssuerProfile ===

impl IssuerProfile {
    /// Checks the settings.
    ///
    /// # Errors
    /// All problems at once.
    pub fn new(mut settings: ProfileSettings) -> Result<Self, Vec<ProfileError>> {
        settings.types = settings.types.iter().map(|name| fold_type(name)).collect();
        let problems = problems::of(&settings);
        if !problems.is_empty() {
            return Err(problems);
        }
        let lists = |word: &str| settings.types.iter().any(|name| name == word);
        let (accepts_no_type, is_strict) = (lists(NO_TYPE), lists(STRICT));
        settings.types = expand(&settings.types);
        if is_strict {
            let missing = STRICT_CLAIMS.iter().filter(|claim| !settings.required_claims.iter().any(|it| it == **claim));
            let missing: Vec<String> = missing.map(|claim| (*claim).to_owned()).collect();
            settings.required_claims.extend(missing);
        }
        Ok(Self { settings, accepts_no_type })
    }

    /// Exact `iss`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Accepted algorithms.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.settings.algorithms
    }

    /// Accepted audiences.
    #[must_use]
    pub fn audiences(&self) -> &[String] {
        &self.settings.audiences
    }

    /// Where the keys come from.
    #[must_use]
    pub fn key_origin(&self) -> KeyOrigin {
        self.settings.key_origin
    }

    /// Names under which projected claims reach policy.
    #[must_use]
    pub fn projected_names(&self) -> BTreeSet<&str> {
        self.projection().map(|(_, to)| to).collect()
    }

    /// Pairs of the claim's name in the token and its name in `input.token.claims`.
    pub fn projection(&self) -> impl Iterator<Item = (&str, &str)> {
        let kept = self.settings.keep.iter().map(|name| (name.as_str(), name.as_str()));
        kept.chain(self.settings.rename.iter().map(|(from, to)| (from.as_str(), to.as_str())))
    }

    /// Must tokens be bound to their sender?
    #[must_use]
    pub fn sender_constraint(&self) -> SenderConstraint {
        self.settings.sender_constraint
    }

    /// The claim that names the tenant.
    #[must_use]
    pub fn tenant_claim(&self) -> Option<&str> {
        self.settings.tenant_claim.as_deref()
    }

    /// How long a token can be valid after it was issued, by the clocks of both sides. A token without `iat` is taken to
    /// live no longer.
    #[must_use]
    pub fn longest_life(&self) -> Duration {
        self.settings.max_lifetime + self.settings.leeway * 2 + Duration::from_secs(1)
    }

    /// How logout tokens of this issuer are understood; `None`: it sends none.
    #[must_use]
    pub fn logout(&self) -> Option<&LogoutSettings> {
        self.settings.logout.as_ref()
    }

    /// It sends security event tokens and nothing else.
    #[must_use]
    pub fn is_transmitter(&self) -> bool {
        self.settings.is_transmitter
    }

    /// What becomes of tokens that name a status list.
    #[must_use]
    pub fn status_lists(&self) -> &StatusListUse {
        &self.settings.status_lists
    }

    /// How the issuer is asked about its tokens, if it is.
    #[must_use]
    pub fn introspection(&self) -> Option<&IntrospectionSettings> {
        self.settings.introspection.as_ref()
    }

    pub(super) fn required_claims(&self) -> &[String] {
        &self.settings.required_claims
    }

    /// Clock skew.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.settings.leeway
    }

    /// What the dates are held against.
    pub(super) fn time_rules(&self) -> TimeRules {
        let ProfileSettings { leeway, max_lifetime, max_age, .. } = self.settings;
        TimeRules { leeway, max_lifetime, max_age }
    }

    /// Holds the size of a claims set against this profile.
    pub(super) fn check_size(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        let ProfileSettings { max_claims, max_array, .. } = self.settings;
        if claims.len() > max_claims {
            return Err(TokenError::TooManyClaims { found: claims.len(), limit: max_claims });
        }
        for (claim, value) in claims {
            let found = longest_array(value);
            if found > max_array {
                return Err(TokenError::ArrayTooLong { claim: Untrusted::new(claim), found, limit: max_array });
            }
        }
        Ok(())
    }

    /// `typ` and `alg` against this profile.
    pub(super) fn check_header(&self, header: &Header) -> Result<(), TokenError> {
        let type_allowed = match &header.typ {
            None => self.accepts_no_type,
            Some(typ) => self.settings.types.contains(typ),
        };
        if !type_allowed {
            return Err(TokenError::TypeNotAllowed {
                found: header.typ.as_deref().map(Untrusted::new),
                allowed: self.shown_types(),
                issuer: self.settings.issuer.clone(),
            });
        }
        self.check_algorithm(header)
    }

    /// `alg` against this profile.
    pub(super) fn check_algorithm(&self, header: &Header) -> Result<(), TokenError> {
        if !self.settings.algorithms.contains(&header.algorithm) {
            return Err(TokenError::AlgorithmNotAllowed {
                found: header.algorithm,
                allowed: self.shown_algorithms(),
                issuer: self.settings.issuer.clone(),
            });
        }
        Ok(())
    }

    fn shown_algorithms(&self) -> String {
        if self.settings.algorithms.is_empty() { "no JWT".to_owned() } else { join(&self.settings.algorithms) }
    }

    pub(super) fn shown_types(&self) -> String {
        let names = self.settings.types.iter().map(String::as_str);
        join(names.chain(self.accepts_no_type.then_some("no `typ`")))
    }
}

/// The length of the longest list in a value. Its depth was bounded when it was read.
fn longest_array(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(longest_array).fold(items.len(), usize::max),
        Value::Object(members) => members.values().map(longest_array).max().unwrap_or(0),
        _ => 0,
    }
}

/// The types that a list stands for, each once.
fn expand(names: &[String]) -> Vec<String> {
    let mut types: Vec<String> = Vec::new();
    for name in names {
        let meant: &[&str] = match name.as_str() {
            NO_TYPE => &[],
            EITHER_TYPE => &["at+jwt", "jwt"],
            STRICT => &["at+jwt"],
            name => &[name],
        };
        for typ in meant {
            if !types.iter().any(|known| known == typ) {
                types.push((*typ).to_owned());
            }
        }
    }
    types
}

/// `a, b, c`, for messages.
pub(super) fn join(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{IssuerProfile, ProfileSettings};

    fn check(claims: &Value, expected: Result<(), &str>) {
        let settings = ProfileSettings {
            issuer: "https://idp.example".to_owned(),
            audiences: vec!["folders".to_owned()],
            max_claims: 4,
            max_array: 3,
            ..ProfileSettings::default()
        };
        let profile = IssuerProfile::new(settings).unwrap();
        let found = profile.check_size(claims.as_object().unwrap()).map_err(|error| error.code());
        assert_eq!(found, expected, "{claims}");
    }

    #[test]
    fn claims_and_lists_are_counted_wherever_they_stand() {
        check(&json!({}), Ok(()));
        check(&json!({"a": 1, "b": 2, "c": 3, "d": {"e": 1, "f": 2, "g": 3, "h": 4, "i": 5}}), Ok(()));
        check(&json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}), Err("too_many_claims"));
        check(&json!({"a": [1, 2, 3]}), Ok(()));
        check(&json!({"a": [1, 2, 3, 4]}), Err("array_too_long"));
        check(&json!({"a": [[1, 2], [3, 4], [5, 6]]}), Ok(()));
        check(&json!({"a": {"b": [{"c": [1, 2, 3, 4]}]}}), Err("array_too_long"));
        check(&json!({"aud": ["1", "2", "3", "4"]}), Err("array_too_long"));
    }
}
