//! Token Status List (draft-ietf-oauth-status-list): the reference that a token carries, the list that its issuer signs,
//! and the status at an index. Pure; fetching and holding lists is another module's. A list that does not hold in every
//! point says nothing, and a token whose status is anything but `VALID` is refused.

mod origin;

use std::{fmt, io::Read as _, sync::Arc, time::Duration};

use flate2::read::ZlibDecoder;
use serde_json::{Map, Value};

pub use self::origin::{NotAnOrigin, Origin};
use super::{
    claims::VerifiedClaims,
    compact::{Limits, RawToken, decode_base64url},
    error::{TokenError, Untrusted},
    keys::{KeySet, WantedKey},
    profile::IssuerProfile,
    signature::Thumbprint,
    statement::{Expected, Unverified, check_audience, check_dates},
    time::{UnixTime, date, seconds},
};

/// What becomes of the tokens of an issuer that name a status list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusListUse {
    /// The list is asked. It stands at the issuer's own origin, or at one of these.
    Check(Vec<Origin>),
    /// The reference is passed over: a revoked token passes.
    Ignore,
}

/// Where a token's status is: `status.status_list` (§6.2).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StatusReference {
    uri: Arc<str>,
    index: u64,
}

/// A verified list, unpacked.
#[derive(Clone)]
pub struct StatusList {
    bits: u32,
    packed: Vec<u8>,
    expires_at: Option<i64>,
    ttl: Option<Duration>,
    key: Thumbprint,
}

/// Sizes of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusListLimits {
    /// Bytes of the whole signed list as sent.
    pub token_bytes: usize,
    /// Bytes after unpacking: eight statuses of one bit each.
    pub list_bytes: usize,
}

/// One status (§7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 0.
    Valid,
    /// 1.
    Invalid,
    /// 2.
    Suspended,
    /// 3 and more: reserved, or a meaning that only the application knows.
    Other(u8),
}

/// Whoever holds lists.
pub trait Statuses: fmt::Debug + Send + Sync {
    /// The list that tokens of this issuer name, if it is at hand and may still be used, signed with one of `keys`.
    fn list(&self, issuer: &str, uri: &Arc<str>, keys: &KeySet, now: UnixTime) -> Option<Arc<StatusList>>;
}

/// Nobody holds any: a token that names a list does not pass.
impl Statuses for () {
    fn list(&self, _: &str, _: &Arc<str>, _: &KeySet, _: UnixTime) -> Option<Arc<StatusList>> {
        None
    }
}

/// Why a token does not pass its status list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// `status` is the registered claim, and what is in it is not understood.
    #[error(
        "the token's status cannot be looked up: {0}; where that does not matter, set `status_lists.check: false` for its issuer"
    )]
    Malformed(&'static str),
    /// The list is neither at the issuer's origin nor at one that is configured.
    #[error(
        "the token names the status list {uri}, which is not of the origin of {issuer}; add its origin to `status_lists.origins`"
    )]
    Elsewhere {
        /// What the token says.
        uri: Untrusted,
        /// The profile.
        issuer: String,
    },
    /// 1.
    #[error("the issuer's status list says that the token is invalid: it was revoked")]
    Invalid,
    /// 2.
    #[error("the issuer's status list says that the token is suspended")]
    Suspended,
    /// 3 and more.
    #[error("the issuer's status list gives the token the status {0}, which has no meaning here")]
    Other(u8),
    /// The list says nothing about this token.
    #[error("the token's place in its status list is {index}, which is outside of it")]
    Outside {
        /// The token's `idx`.
        index: u64,
    },
    /// The list is not at hand.
    #[error("the status list of the token is not at hand")]
    Unavailable {
        /// The configured issuer.
        issuer: String,
        /// Where the list is.
        uri: Arc<str>,
    },
}

/// Why a list was refused: the first check that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatusListError {
    /// A check that access tokens have too: format, header, dates, key, signature.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// `sub` is another URL than the one that was asked.
    #[error("`sub` of the status list is not the URL that tokens name")]
    OtherList,
    /// `ttl` is not a positive number of seconds.
    #[error("`ttl` of the status list is not a positive number of seconds")]
    TtlMalformed,
    /// `status_list` is missing or lacks its members.
    #[error("`status_list` is not an object with `bits` and `lst`")]
    ListMalformed,
    /// `bits` is none of the four.
    #[error("`bits` of the status list is none of 1, 2, 4 and 8")]
    BitsUnsupported,
    /// `lst` is no base64url of a ZLIB stream, or something follows it.
    #[error("`lst` of the status list is not one ZLIB stream in unpadded base64url")]
    NotZlib,
    /// More bytes than allowed.
    #[error("the status list has more than {limit} bytes when it is unpacked")]
    TooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// No status at all.
    #[error("the status list is empty")]
    Empty,
}

/// `typ` of §5.1.
const TYPE: &str = "statuslist+jwt";

/// Longest URL of a list.
const MAX_URI_BYTES: usize = 1024;

impl Default for StatusListUse {
    fn default() -> Self {
        Self::Check(Vec::new())
    }
}

impl Default for StatusListLimits {
    /// 4 MiB as sent, and 8 MiB unpacked: 64 million statuses of one bit.
    fn default() -> Self {
        Self { token_bytes: 4 << 20, list_bytes: 8 << 20 }
    }
}

/// Holds a token against its status list, if it names one. To be asked on every request.
///
/// # Errors
/// [`StatusError`]: its status is not `VALID`, or cannot be known.
pub fn check_status(
    claims: &VerifiedClaims,
    statuses: &dyn Statuses,
    keys: Option<&KeySet>,
    now: UnixTime,
) -> Result<(), StatusError> {
    let Some(StatusReference { uri, index }) = claims.status() else { return Ok(()) };
    let list = keys.and_then(|keys| statuses.list(claims.issuer(), uri, keys, now));
    let unavailable = || StatusError::Unavailable { issuer: claims.issuer().to_owned(), uri: Arc::clone(uri) };
    match list.ok_or_else(unavailable)?.at(*index) {
        Some(Status::Valid) => Ok(()),
        Some(Status::Invalid) => Err(StatusError::Invalid),
        Some(Status::Suspended) => Err(StatusError::Suspended),
        Some(Status::Other(status)) => Err(StatusError::Other(status)),
        None => Err(StatusError::Outside { index: *index }),
    }
}

// === impl StatusReference ===

impl StatusReference {
    /// The reference of a claims set. A `status` that is no object is a claim of some other meaning; an object is
    /// the registered claim, and what is in it must be understood.
    pub(super) fn of_claims(claims: &Map<String, Value>, profile: &IssuerProfile) -> Result<Option<Self>, StatusError> {
        let (Some(Value::Object(status)), StatusListUse::Check(origins)) =
            (claims.get("status"), profile.status_lists())
        else {
            return Ok(None);
        };
        let Some(Value::Object(list)) = status.get("status_list") else {
            return Err(StatusError::Malformed("`status` has no `status_list`, the only mechanism known"));
        };
        let index = list.get("idx").and_then(Value::as_u64);
        let index = index.ok_or(StatusError::Malformed("`idx` is not a whole number"))?;
        let Some(Value::String(uri)) = list.get("uri") else {
            return Err(StatusError::Malformed("`uri` is not a string"));
        };
        if uri.len() > MAX_URI_BYTES {
            return Err(StatusError::Malformed("`uri` has more than 1024 bytes"));
        }
        let origin = Origin::of_url(uri);
        let origin = origin.map_err(|_| StatusError::Malformed("`uri` is not an http or https URL"))?;
        let is_own = Origin::of_url(profile.issuer()).is_ok_and(|own| own == origin);
        if is_own || origins.contains(&origin) {
            return Ok(Some(Self { uri: uri.as_str().into(), index }));
        }
        Err(StatusError::Elsewhere { uri: Untrusted::new(uri), issuer: profile.issuer().to_owned() })
    }

    /// Where the list is.
    #[must_use]
    pub fn uri(&self) -> &Arc<str> {
        &self.uri
    }

    /// The token's place in it.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }
}

// === impl StatusList ===

impl StatusList {
    /// Verifies the signed list that was found at `uri`, with the keys of the issuer whose tokens name it (§8.3).
    ///
    /// # Errors
    /// The first check that failed.
    pub fn open(
        raw: &RawToken,
        uri: &str,
        profile: &IssuerProfile,
        keys: Option<&KeySet>,
        limits: StatusListLimits,
        now: UnixTime,
    ) -> Result<Self, StatusListError> {
        let reading = Limits { token_bytes: limits.token_bytes, json_depth: 16, json_members: 200 };
        let token = Unverified::parse(raw, reading)?;
        let claims = token.claims();
        // Not required here, and when it is there it names who signed.
        if claims.contains_key("iss") && token.issuer()? != profile.issuer() {
            return Err(TokenError::IssuerUnknown { issuer: Untrusted::new(token.issuer()?) }.into());
        }
        if claims.get("sub").and_then(Value::as_str) != Some(uri) {
            return Err(StatusListError::OtherList);
        }
        check_dates(claims, profile.leeway(), now)?;
        if claims.contains_key("aud") {
            check_audience(claims, profile.audiences(), profile.issuer())?;
        }
        let expected =
            Expected { issuer: profile.issuer(), types: &[TYPE.to_owned()], algorithms: profile.algorithms() };
        let verified = token.verify(&expected, keys)?;

        let claims = &verified.claims;
        let Some(Value::Object(list)) = claims.get("status_list") else { return Err(StatusListError::ListMalformed) };
        let (Some(bits), Some(Value::String(lst))) = (list.get("bits"), list.get("lst")) else {
            return Err(StatusListError::ListMalformed);
        };
        let bits = match bits.as_u64() {
            Some(1) => 1,
            Some(2) => 2,
            Some(4) => 4,
            Some(8) => 8,
            _ => return Err(StatusListError::BitsUnsupported),
        };
        let expires_at = date(claims, "exp")?.map(|date| date.floor().saturating_add(seconds(profile.leeway())));
        let packed = unpack(lst, limits.list_bytes)?;
        Ok(Self { bits, packed, expires_at, ttl: ttl(claims)?, key: verified.key })
    }

    /// The status at an index; `None` outside of the list, which says nothing about such a token.
    #[must_use]
    pub fn at(&self, index: u64) -> Option<Status> {
        let per_byte = u64::from(8 / self.bits);
        let byte = self.packed.get(usize::try_from(index / per_byte).ok()?)?;
        // The first status stands in the lowest bits (§4.1).
        let shift = u32::try_from(index % per_byte).ok()? * self.bits;
        let value = byte.checked_shr(shift)? & (u8::MAX >> (8 - self.bits));
        Some(match value {
            0 => Status::Valid,
            1 => Status::Invalid,
            2 => Status::Suspended,
            other => Status::Other(other),
        })
    }

    /// `exp` with the leeway of the issuer: from this second on it says nothing.
    #[must_use]
    pub fn expires_at(&self) -> Option<UnixTime> {
        self.expires_at.map(UnixTime)
    }

    /// `ttl`: how long it may be used before a new one is asked for.
    #[must_use]
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Is the key that signed it still one of these?
    #[must_use]
    pub fn holds_with(&self, keys: &KeySet) -> bool {
        keys.has(&self.key)
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.packed.len()
    }
}

impl fmt::Debug for StatusList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatusList({} bytes, {} bits each)", self.packed.len(), self.bits)
    }
}

fn unpack(lst: &str, limit: usize) -> Result<Vec<u8>, StatusListError> {
    let deflated = decode_base64url(lst).ok_or(StatusListError::NotZlib)?;
    let mut packed = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut reader = ZlibDecoder::new(&*deflated).take(most);
    reader.read_to_end(&mut packed).map_err(|_| StatusListError::NotZlib)?;
    if packed.len() > limit {
        return Err(StatusListError::TooLarge { limit });
    }
    if reader.get_ref().total_in() != u64::try_from(deflated.len()).unwrap_or(u64::MAX) {
        return Err(StatusListError::NotZlib);
    }
    if packed.is_empty() { Err(StatusListError::Empty) } else { Ok(packed) }
}

fn ttl(claims: &Map<String, Value>) -> Result<Option<Duration>, StatusListError> {
    let Some(value) = claims.get("ttl") else { return Ok(None) };
    let seconds = value.as_u64().filter(|seconds| *seconds > 0).or_else(|| {
        let fraction = value.as_f64().filter(|fraction| *fraction >= 1.0 && *fraction < 1e15)?;
        Duration::try_from_secs_f64(fraction).ok().map(|ttl| ttl.as_secs())
    });
    seconds.map(|seconds| Some(Duration::from_secs(seconds))).ok_or(StatusListError::TtlMalformed)
}

// === impl StatusError ===

impl StatusError {
    /// Stable `snake_case` code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "status_malformed",
            Self::Elsewhere { .. } => "status_list_elsewhere",
            Self::Invalid => "status_invalid",
            Self::Suspended => "status_suspended",
            Self::Other(_) => "status_unknown",
            Self::Outside { .. } => "status_outside_of_list",
            Self::Unavailable { .. } => "status_list_unavailable",
        }
    }

    /// The step that failed, as in [`TokenError::step`].
    pub(super) const fn step(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Elsewhere { .. } => "claims",
            _ => "status",
        }
    }
}

// === impl StatusListError ===

impl StatusListError {
    /// The configured issuer, when fresh keys of it might change the answer.
    #[must_use]
    pub fn wants_keys_of(&self) -> Option<&str> {
        match self {
            Self::Token(error) => error.wants_keys_of(),
            _ => None,
        }
    }

    /// The key that was not there, when the token names one.
    #[must_use]
    pub fn wanted_key(&self) -> Option<WantedKey> {
        match self {
            Self::Token(error) => error.wanted_key(),
            _ => None,
        }
    }

    /// Stable `snake_case` code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Token(error) => error.code(),
            Self::OtherList => "status_list_of_other_url",
            Self::TtlMalformed => "status_list_ttl_malformed",
            Self::ListMalformed => "status_list_malformed",
            Self::BitsUnsupported => "status_list_bits_unsupported",
            Self::NotZlib => "status_list_not_zlib",
            Self::TooLarge { .. } => "status_list_too_large",
            Self::Empty => "status_list_empty",
        }
    }
}
