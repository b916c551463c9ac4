//! How one issuer is asked about its tokens, as the operator writes it. Secrets are never shown; nothing is read or sent
//! here, and settings that would ask about nothing, or without a name of our own, are refused.

use std::{fmt, path::PathBuf, time::Duration};

use super::form_encoded;

/// How one issuer is asked about its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntrospectionSettings {
    /// Where.
    pub endpoint: IntrospectionEndpoint,
    /// Who we are at the issuer: `aud` of its signed answers. Empty only where a bearer token says who we are.
    pub client_id: String,
    /// How we show that.
    pub authentication: ClientAuthentication,
    /// Is this the issuer of the tokens that name none? At most one can be.
    pub opaque: bool,
    /// Is it asked about JWTs that verified?
    pub jwt: JwtOpinion,
    /// Only signed answers (RFC 9701) count.
    pub signed: bool,
    /// An answer may lack `aud`. It must then say by `token_type` that the token is an access token.
    pub optional_audience: bool,
    /// An answer may lack `exp`. It then holds for `cache_ttl`.
    pub optional_expiry: bool,
    /// How long an active answer holds; zero: for the one request.
    pub cache_ttl: Duration,
    /// How long an inactive one does.
    pub inactive_ttl: Duration,
    /// For a whole question.
    pub timeout: Duration,
    /// Largest answer.
    pub max_bytes: usize,
    /// Questions under way at a time.
    pub concurrency: usize,
    /// Allows `http` to hosts other than loopback.
    pub allow_http: bool,
    /// Certificates (PEM) of the authorities that are believed, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// The certificate chain (PEM) that is shown to the issuer, and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
}

/// Where an issuer is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntrospectionEndpoint {
    /// A URL that the operator wrote.
    Url(String),
    /// `introspection_endpoint` of the issuer's metadata.
    Discovered,
}

/// How a client shows who it is (RFC 7591 §2 has the names).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic(SecretSource),
    /// `client_secret_post`.
    Post(SecretSource),
    /// A bearer token (RFC 7662 §2.1).
    Bearer(SecretSource),
    /// `private_key_jwt`: an assertion signed with this key (RFC 7523 §2.2), a private JWK or PEM.
    PrivateKey(SecretSource),
    /// `tls_client_auth`: the client certificate of the connection (RFC 8705 §2).
    Certificate,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file, read anew for each question, so that a new secret counts at once.
    File(PathBuf),
    /// Given.
    Text(Secret),
}

/// A secret. No `Display`; `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// Is the issuer asked about JWTs that verified?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum JwtOpinion {
    /// The signature and the claims are enough.
    #[default]
    Never,
    /// After every local check, for what only the issuer knows: revocation.
    Always,
}

/// The longest time for which an answer may hold: whoever revokes a token counts on less.
pub(super) const LONGEST_TTL: Duration = Duration::from_secs(300);

// === impl IntrospectionSettings ===

impl IntrospectionSettings {
    /// Does it all work without the issuer's keys?
    #[must_use]
    pub fn needs_no_keys(&self) -> bool {
        self.opaque && self.jwt == JwtOpinion::Never && !self.signed
    }

    /// Everything that is wrong, with the configuration key below the issuer.
    pub(in crate::token) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut add = |field, message: &str| problems.push((field, message.to_owned()));
        if !self.opaque && self.jwt == JwtOpinion::Never {
            add("introspection", "it asks about no token; set `opaque: true`, `jwt: always`, or both");
        }
        if self.client_id.is_empty() && !matches!(self.authentication, ClientAuthentication::Bearer(_)) {
            add("introspection.client_id", "it is empty; write the client id that the issuer gave to this service");
        } else if self.client_id.is_empty() && self.signed {
            add("introspection.client_id", "signed answers are made out to a client id; write ours");
        }
        if self.cache_ttl > LONGEST_TTL || self.inactive_ttl > LONGEST_TTL {
            add(
                "introspection.cache_ttl",
                "an answer holds for at most 5 minutes; a revoked token would pass for longer",
            );
        }
        if self.optional_expiry && self.cache_ttl < Duration::from_secs(1) {
            add("introspection.expiry", "without `exp` an answer holds for `cache_ttl`, which is less than a second");
        }
        if self.timeout.is_zero() {
            add("introspection.timeout", "no answer comes in no time");
        }
        if self.authentication == ClientAuthentication::Certificate && self.client_certificate.is_none() {
            add("introspection.client_certificate", "`tls_client_auth` shows a certificate; name it and its key");
        }
        if self.concurrency == 0 {
            add("introspection.concurrency", "nothing could be asked; the default is 32");
        }
        problems
    }
}

impl Default for IntrospectionSettings {
    /// A discovered endpoint and no credentials (so not yet complete), answers with `aud` and `exp`, 30 s and 5 s.
    fn default() -> Self {
        Self {
            endpoint: IntrospectionEndpoint::Discovered,
            client_id: String::new(),
            authentication: ClientAuthentication::Certificate,
            opaque: false,
            jwt: JwtOpinion::Never,
            signed: false,
            optional_audience: false,
            optional_expiry: false,
            cache_ttl: Duration::from_secs(30),
            inactive_ttl: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
            max_bytes: 64 * 1024,
            concurrency: 32,
            allow_http: false,
            ca_file: None,
            client_certificate: None,
        }
    }
}

// === impl Secret ===

impl Secret {
    /// Wraps what was configured or read. White space at the end, as editors leave it in files, is no part of it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim_end().into())
    }

    /// Nothing in it?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The secret itself, for whoever sends it to the issuer.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `client:secret` as RFC 6749 §2.3.1 wants it: both form-encoded, before base64.
    #[must_use]
    pub fn basic(&self, client_id: &str) -> Self {
        Self(format!("{}:{}", form_encoded(client_id), form_encoded(&self.0)).into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}
