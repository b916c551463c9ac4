//! The events that are known, by their URIs, and when they end tokens. An event that is not listed is
//! [`EventKind::Other`]: it is taken note of and ends nothing.

use serde_json::{Map, Value};

/// What happened. Closed, so that it can be a metric's label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// OpenID Connect Back-Channel Logout 1.0.
    BackchannelLogout,
    /// CAEP 1.0 §3.1: a session was revoked.
    SessionRevoked,
    /// CAEP 1.0 §3.2: claims that tokens carry changed.
    TokenClaimsChange,
    /// CAEP 1.0 §3.3: a credential was created, changed or removed.
    CredentialChange,
    /// CAEP 1.0 §3.4: the user's assurance level changed.
    AssuranceLevelChange,
    /// CAEP 1.0 §3.5: a device's compliance changed.
    DeviceComplianceChange,
    /// RISC 1.0 §2.2: the account was purged.
    AccountPurged,
    /// RISC 1.0 §2.3: the account was disabled.
    AccountDisabled,
    /// RISC 1.0 §2.7: a credential was compromised.
    CredentialCompromise,
    /// RISC 1.0 §2.10: all sessions were revoked.
    SessionsRevoked,
    /// Shared Signals Framework 1.0 §8.1.4.1: the stream is being tested.
    Verification,
    /// Shared Signals Framework 1.0 §8.1.5: the stream's state changed.
    StreamUpdated,
    /// Any other event.
    Other,
}

pub(in crate::token) const LOGOUT_EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// URIs of what a security event token may tell. A logout event is not among them: it comes in logout tokens only.
const URIS: [(&str, EventKind); 11] = [
    ("https://schemas.openid.net/secevent/caep/event-type/session-revoked", EventKind::SessionRevoked),
    ("https://schemas.openid.net/secevent/caep/event-type/token-claims-change", EventKind::TokenClaimsChange),
    ("https://schemas.openid.net/secevent/caep/event-type/credential-change", EventKind::CredentialChange),
    ("https://schemas.openid.net/secevent/caep/event-type/assurance-level-change", EventKind::AssuranceLevelChange),
    ("https://schemas.openid.net/secevent/caep/event-type/device-compliance-change", EventKind::DeviceComplianceChange),
    ("https://schemas.openid.net/secevent/risc/event-type/account-purged", EventKind::AccountPurged),
    ("https://schemas.openid.net/secevent/risc/event-type/account-disabled", EventKind::AccountDisabled),
    ("https://schemas.openid.net/secevent/risc/event-type/credential-compromise", EventKind::CredentialCompromise),
    ("https://schemas.openid.net/secevent/risc/event-type/sessions-revoked", EventKind::SessionsRevoked),
    ("https://schemas.openid.net/secevent/ssf/event-type/verification", EventKind::Verification),
    ("https://schemas.openid.net/secevent/ssf/event-type/stream-updated", EventKind::StreamUpdated),
];

// === impl EventKind ===

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::BackchannelLogout,
        Self::SessionRevoked,
        Self::TokenClaimsChange,
        Self::CredentialChange,
        Self::AssuranceLevelChange,
        Self::DeviceComplianceChange,
        Self::AccountPurged,
        Self::AccountDisabled,
        Self::CredentialCompromise,
        Self::SessionsRevoked,
        Self::Verification,
        Self::StreamUpdated,
        Self::Other,
    ];

    pub(super) fn of_uri(uri: &str) -> Self {
        URIS.iter().find(|(known, _)| *known == uri).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// Stable `snake_case` name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::BackchannelLogout => "backchannel_logout",
            Self::SessionRevoked => "session_revoked",
            Self::TokenClaimsChange => "token_claims_change",
            Self::CredentialChange => "credential_change",
            Self::AssuranceLevelChange => "assurance_level_change",
            Self::DeviceComplianceChange => "device_compliance_change",
            Self::AccountPurged => "account_purged",
            Self::AccountDisabled => "account_disabled",
            Self::CredentialCompromise => "credential_compromise",
            Self::SessionsRevoked => "sessions_revoked",
            Self::Verification => "verification",
            Self::StreamUpdated => "stream_updated",
            Self::Other => "other",
        }
    }

    /// Does this event, told with these members, end tokens? A change that is told without its direction counts as one
    /// for the worse.
    pub(super) fn ends_tokens(self, event: &Map<String, Value>) -> bool {
        let says = |member: &str, word: &str| event.get(member).is_some_and(|value| value == word);
        match self {
            Self::BackchannelLogout
            | Self::SessionRevoked
            | Self::TokenClaimsChange
            | Self::CredentialChange
            | Self::AccountPurged
            | Self::AccountDisabled
            | Self::CredentialCompromise
            | Self::SessionsRevoked => true,
            Self::AssuranceLevelChange => !says("change_direction", "increase"),
            Self::DeviceComplianceChange => !says("current_status", "compliant"),
            Self::Verification | Self::StreamUpdated | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct_and_every_uri_is_known_byte_for_byte() {
        let labels: BTreeSet<_> = EventKind::ALL.into_iter().map(EventKind::label).collect();
        assert_eq!(labels.len(), EventKind::ALL.len());
        for (uri, kind) in URIS {
            assert_eq!(EventKind::of_uri(uri), kind);
            assert_eq!(EventKind::of_uri(&uri.to_uppercase()), EventKind::Other);
            assert_eq!(EventKind::of_uri(&format!("{uri}/")), EventKind::Other);
        }
        assert_eq!(EventKind::of_uri(LOGOUT_EVENT), EventKind::Other);
    }
}
