//! Is the sender of a verified token its holder? Collects what a proof of that needs from the request: the `DPoP` header,
//! the URI that the client asked for, and its certificate. The last two are believed only when a trusted peer tells them;
//! the judgement itself is [`token::check_sender`].

use std::time::{Duration, SystemTime};

use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::{Asking, replays::Replays};
use crate::{
    authorize::DenyReason,
    serve::{App, Arrival},
    snapshot::Snapshot,
    telemetry::Gauge,
    token::{
        self, CertificateFault, CertificateHeader, CertificateThumbprint, Nonces, ProofOrigin, ProofRules, ProofTarget,
        RawToken, Scheme, SenderConstraint, Sent, SentProof, UnixTime, VerifiedClaims,
    },
};

/// How senders prove that a token is theirs, and what they are told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderSettings {
    /// How DPoP proofs are judged.
    pub proofs: ProofRules,
    /// Must a proof have a nonce of ours?
    pub requires_nonce: bool,
    /// A nonce is accepted for one to two of these.
    pub nonce_period: Duration,
    /// How many proofs are remembered.
    pub replay_entries: usize,
    /// Scheme and authority under which clients reach what is protected, whatever a proxy says.
    pub external_url: Option<ProofOrigin>,
    /// Is DPoP offered in challenges even when no issuer demands it?
    pub offers_dpop: bool,
    /// The header in which trusted peers tell of the client's certificate.
    pub certificate_header: Option<CertificateHeader>,
    /// RFC 9728: what is protected here; `None`: no metadata are served.
    pub resource: Option<String>,
    /// RFC 9728: the URL in every challenge.
    pub resource_metadata: Option<String>,
}

/// What the client asked for, as the door understood it.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) enum Asked<'a> {
    /// A trusted proxy described the request.
    Forwarded {
        method: &'a Method,
        scheme: &'a str,
        /// With its port; empty when the client named none.
        host: &'a str,
        /// Path and query as the client sent them.
        uri: &'a str,
    },
    /// The request itself, or one that a trusted peer describes in `X-Forwarded-*`.
    Own { method: &'a Method, uri: &'a Uri },
}

/// What is held to check senders by.
#[derive(Debug)]
pub(in crate::serve) struct Senders {
    /// `None`: no nonce is needed.
    nonces: Option<Nonces>,
    replays: Replays,
}

const PROOF: HeaderName = HeaderName::from_static("dpop");
const FORWARDED_METHOD: &str = "x-forwarded-method";
const FORWARDED_URI: &str = "x-forwarded-uri";
const FORWARDED_PROTO: &str = "x-forwarded-proto";
const FORWARDED_HOST: &str = "x-forwarded-host";

// === impl Senders ===

impl Senders {
    pub(in crate::serve) fn new(settings: &SenderSettings, remembered: Gauge) -> Self {
        let nonces = settings.requires_nonce.then(|| {
            let mut secret = [0; 32];
            if rand::fill(&mut secret).is_err() {
                // Nonces that can be guessed are as good as none: whoever guesses one could only have asked for it.
                tracing::error!("the system has no randomness; nonces for DPoP proofs can be guessed");
            }
            Nonces::new(&secret, settings.nonce_period)
        });
        Self { nonces, replays: Replays::new(settings.replay_entries, remembered) }
    }

    /// Asks whether whoever sent this token holds what it is bound to.
    pub(super) fn check(
        &self,
        app: &App,
        snapshot: &Snapshot,
        claims: &VerifiedClaims,
        (raw, scheme): (&RawToken, Scheme),
        asking: Asking<'_>,
    ) -> Result<(), DenyReason> {
        let settings = &app.settings.sender;
        // The snapshot that verified the token has the profile of its issuer.
        let profile = snapshot.profiles.get(claims.issuer()).ok_or(DenyReason::NoToken)?;
        let is_free = claims.confirmation().is_none() && profile.sender_constraint() == SenderConstraint::Optional;
        if is_free && scheme == Scheme::Bearer {
            return Ok(());
        }
        let (proof, target) = match scheme {
            Scheme::Bearer => (Vec::new(), None),
            Scheme::Dpop => (proofs(asking.headers), target(app, asking)),
        };
        let sent = Sent {
            token: raw,
            scheme,
            proof: match proof.as_slice() {
                [] => SentProof::Missing,
                [one] => SentProof::One(one),
                _ => SentProof::Several,
            },
            target: target.as_ref(),
            certificate: certificate(settings.certificate_header, app, asking),
        };
        let now = UnixTime::from(SystemTime::now());
        let accepted = token::check_sender(claims, profile, &sent, &settings.proofs, self.nonces.as_ref(), now)
            .map_err(DenyReason::Sender)?;
        if let Some(proof) = accepted {
            self.replays.admit(&proof, now).map_err(|error| DenyReason::Sender(error.into()))?;
            if proof.wants_nonce {
                self.renew_nonce(asking.arrival);
            }
        }
        Ok(())
    }

    /// Has the answer carry a fresh nonce.
    pub(super) fn renew_nonce(&self, arrival: &Arrival) {
        let Some(nonces) = &self.nonces else { return };
        // base64url is a header value.
        if let Ok(nonce) = HeaderValue::from_str(&nonces.current(UnixTime::from(SystemTime::now()))) {
            // It may be there already, and is the same.
            let _ = arrival.nonce.set(nonce);
        }
    }
}

/// At most two: a second one is refused whatever it says.
fn proofs(headers: &HeaderMap) -> Vec<RawToken> {
    // What is no text is no proof, and replacing what is wrong in it makes it none.
    let raw = |value: &HeaderValue| RawToken::new(String::from_utf8_lossy(value.as_bytes()).trim_matches([' ', '\t']));
    headers.get_all(PROOF).iter().take(2).map(raw).collect()
}

/// What a proof must be for; `None` when nobody who is believed said it.
fn target(app: &App, asking: Asking<'_>) -> Option<ProofTarget> {
    let settings = &app.settings;
    let external = settings.sender.external_url.as_ref();
    let origin = |scheme: &str, host: &str| match external {
        Some(origin) => Some(origin.clone()),
        None => ProofOrigin::parse(&format!("{}://{host}", http_scheme(scheme))),
    };
    match asking.asked {
        Asked::Forwarded { method, scheme, host, uri } => {
            ProofTarget::new(method.as_str(), &origin(scheme, host)?, uri)
        }
        Asked::Own { method, uri } => {
            let is_described = [FORWARDED_METHOD, FORWARDED_URI].iter().any(|name| asking.headers.contains_key(*name));
            if asking.arrival.peer.is_trusted(settings) && is_described {
                let one = |name: &str| one(asking.headers, name);
                let origin = match external {
                    Some(origin) => origin.clone(),
                    None => origin(one(FORWARDED_PROTO)?, one(FORWARDED_HOST)?)?,
                };
                return ProofTarget::new(one(FORWARDED_METHOD)?, &origin, one(FORWARDED_URI)?);
            }
            ProofTarget::new(method.as_str(), external?, uri.path())
        }
    }
}

/// The certificate of the client: of the connection's own TLS, or as a trusted peer tells of it. Where a header is configured
/// a trusted peer is a proxy, whose own certificate is not the client's; the word of other peers never counts.
fn certificate(
    header: Option<CertificateHeader>,
    app: &App,
    asking: Asking<'_>,
) -> Result<Option<CertificateThumbprint>, CertificateFault> {
    match header.filter(|_| asking.arrival.peer.is_trusted(&app.settings)) {
        Some(header) => header.read(asking.headers.get_all(header.name()).iter().map(HeaderValue::as_bytes)),
        None => Ok(asking.arrival.peer.certificate),
    }
}

/// A WebSocket begins as a request over HTTP.
fn http_scheme(scheme: &str) -> &str {
    match scheme {
        _ if scheme.eq_ignore_ascii_case("wss") => "https",
        _ if scheme.eq_ignore_ascii_case("ws") => "http",
        _ => scheme,
    }
}

/// The only value of a header.
fn one<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

// === impl SenderSettings ===

impl Default for SenderSettings {
    fn default() -> Self {
        Self {
            proofs: ProofRules::default(),
            requires_nonce: false,
            nonce_period: Duration::from_secs(300),
            replay_entries: 100_000,
            external_url: None,
            offers_dpop: false,
            certificate_header: None,
            resource: None,
            resource_metadata: None,
        }
    }
}
