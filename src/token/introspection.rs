//! What an issuer says about a token when it is asked (RFC 7662, RFC 9701): the settings, the form that is sent, and the
//! judgement of the answer. An active answer passes the same judge as the claims of a JWT and becomes the same
//! [`VerifiedClaims`](super::VerifiedClaims), so that everything behind it holds for both kinds of token. Nothing is sent
//! from here, and no answer that is not understood to its last member is believed.

mod answer;
mod assertion;
mod settings;

#[cfg(test)]
mod tests;

pub(super) use self::answer::ActiveAnswer;
pub use self::{
    answer::{AnswerForm, confirm, judge_answer},
    assertion::{ASSERTION_TYPE, client_assertion},
    settings::{ClientAuthentication, IntrospectionEndpoint, IntrospectionSettings, JwtOpinion, Secret, SecretSource},
};
use super::{
    compact::{Limits, RawToken, decode_base64url},
    error::{Fault, TokenError, Untrusted},
    keys::WantedKey,
};

/// Why introspection lets a token not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectionError {
    /// Expired, revoked, never issued, or not for us: the issuer does not say which (RFC 7662 §2.2).
    #[error("{issuer} says that the token is not active")]
    Inactive {
        /// The profile.
        issuer: String,
    },
    /// The answer is about a token of another issuer.
    #[error("the introspection answer of {issuer} is about a token of {found}")]
    OtherIssuer {
        /// The profile.
        issuer: String,
        /// What the answer says.
        found: Untrusted,
    },
    /// The answer and the token that it is about tell different things.
    #[error("the introspection answer of {issuer} has another `{claim}` than the token")]
    Contradiction {
        /// The profile.
        issuer: String,
        /// The claim.
        claim: &'static str,
    },
    /// The issuer could not be asked, or did not answer as it must.
    #[error("{issuer} cannot say whether the token is active: {cause}")]
    Unavailable {
        /// The profile.
        issuer: String,
        /// What went wrong.
        cause: IntrospectionFault,
    },
}

/// What keeps an issuer from answering. Names nothing that a server sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntrospectionFault {
    /// As many questions as `concurrency` allows are under way.
    #[error("{limit} questions are under way, which is the limit (`introspection.concurrency`)")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// The circuit is open: the last questions failed, and the next is asked later.
    #[error("its endpoint failed again and again, and is given a rest")]
    CircuitOpen,
    /// Our credentials cannot be had.
    #[error("the client's own credentials cannot be had: {0}")]
    Credentials(String),
    /// Where to ask is not known.
    #[error("its introspection endpoint is not known: {0}")]
    Endpoint(String),
    /// No connection, or it broke.
    #[error("the request failed: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer within the time limit")]
    Timeout,
    /// 401 or 403: the issuer does not accept our credentials.
    #[error("the endpoint answered {0}: it does not accept the client's credentials")]
    Unauthorized(u16),
    /// 400: it cannot do anything with the question.
    #[error("the endpoint answered {0} to the question")]
    Rejected(u16),
    /// Another status than 200.
    #[error("the endpoint answered {0}")]
    Status(u16),
    /// The body is longer than an answer may be.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// `Content-Type` is not that of the answer that was asked for, or the body is compressed.
    #[error("the answer is not `{0}`")]
    ContentType(&'static str),
    /// Not one strict JSON object, or a member of the wrong type.
    #[error("the answer {0}")]
    Malformed(String),
    /// A signed answer that does not verify.
    #[error("the signed answer does not verify: {0}")]
    Unverified(Box<TokenError>),
}

/// The body of one question, up to the client's own fields. `Debug` does not show it.
pub struct IntrospectionRequest(String);

/// Does the text look like a JWS or a JWE, or like a part of one: segments, the first of them a JSON object?
///
/// Such a token is never sent to the issuer of opaque tokens, however broken it is: it names its own issuer.
#[must_use]
pub fn is_jose(raw: &RawToken) -> bool {
    let text = raw.expose();
    let Some((header, _)) = text.split_once('.') else { return false };
    // A mangled end is no reason to take a JWT for something else.
    let begins_as_object = |characters| {
        let start: String = header.chars().take(characters).collect();
        decode_base64url(&start).is_some_and(|bytes| bytes.trim_ascii_start().first() == Some(&b'{'))
    };
    begins_as_object(4) || begins_as_object(64)
}

// === impl IntrospectionRequest ===

impl IntrospectionRequest {
    /// The question about `raw` (RFC 7662 §2.1).
    ///
    /// # Errors
    /// The token is longer than a token may be, or has a character outside RFC 6750's `b64token`.
    pub fn new(raw: &RawToken, limits: Limits) -> Result<Self, TokenError> {
        let text = raw.expose();
        if text.len() > limits.token_bytes {
            return Err(TokenError::TooLarge { bytes: text.len(), limit: limits.token_bytes });
        }
        let body = text.trim_end_matches('=');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        if body.is_empty() {
            return Err(TokenError::ForbiddenCharacter { position: 0 });
        }
        if let Some(position) = body.bytes().position(|byte| !allowed(byte)) {
            return Err(TokenError::ForbiddenCharacter { position });
        }
        let mut form = Self(String::with_capacity(text.len() + 64));
        form.field("token", text);
        form.field("token_type_hint", "access_token");
        Ok(form)
    }

    /// Adds one more field.
    pub fn field(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&form_encoded(value));
    }

    /// The whole body, for whoever sends it to the issuer.
    #[must_use]
    pub fn into_body(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

impl std::fmt::Debug for IntrospectionRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntrospectionRequest({} bytes)", self.0.len())
    }
}

/// `application/x-www-form-urlencoded`, spaces as `%20`: every reader takes both.
pub(super) fn form_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a `String` does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

// === impl IntrospectionError ===

impl IntrospectionError {
    /// Stable code. What exactly keeps an issuer from answering is [`IntrospectionFault::code`]'s matter.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Inactive { .. } => "token_inactive",
            Self::OtherIssuer { .. } => "introspection_issuer_mismatch",
            Self::Contradiction { .. } => "introspection_contradiction",
            Self::Unavailable { .. } => "introspection_unavailable",
        }
    }

    pub(super) const fn fault(&self) -> Fault {
        match self {
            Self::Unavailable { .. } => Fault::Issuer,
            _ => Fault::Token,
        }
    }

    /// A signed answer names a key that is not there; fresh ones might help.
    pub(super) fn wants_keys_of(&self) -> Option<&str> {
        match self {
            Self::Unavailable { cause: IntrospectionFault::Unverified(error), .. } => error.wants_keys_of(),
            _ => None,
        }
    }

    /// That key.
    pub(super) fn wanted_key(&self) -> Option<WantedKey> {
        match self {
            Self::Unavailable { cause: IntrospectionFault::Unverified(error), .. } => error.wanted_key(),
            _ => None,
        }
    }
}

// === impl IntrospectionFault ===

impl IntrospectionFault {
    /// Stable code for metric and log.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::CircuitOpen => "circuit_open",
            Self::Credentials(_) => "no_credentials",
            Self::Endpoint(_) => "no_endpoint",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Unauthorized(_) => "unauthorized",
            Self::Rejected(_) => "rejected",
            Self::Status(_) => "status",
            Self::TooLarge(_) => "answer_too_large",
            Self::ContentType(_) => "answer_content_type",
            Self::Malformed(_) => "answer_malformed",
            Self::Unverified(_) => "answer_unverified",
        }
    }

    /// Is the endpoint as a whole at fault? What one token can bring about (a question that is rejected, an answer that is
    /// too large or malformed) must not open the circuit for all others.
    #[must_use]
    pub const fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::CircuitOpen | Self::Rejected(_) | Self::TooLarge(_) | Self::Malformed(_) => false,
            Self::Credentials(_)
            | Self::Endpoint(_)
            | Self::Unreachable(_)
            | Self::Timeout
            | Self::Unauthorized(_)
            | Self::Status(_)
            | Self::ContentType(_)
            | Self::Unverified(_) => true,
        }
    }
}
