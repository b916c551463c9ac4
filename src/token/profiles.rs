//! All issuer profiles, found by the exact issuer, and the limits that hold before the issuer of a token is known.

use std::collections::BTreeMap;

use super::{
    compact::Limits,
    event::Transmitter,
    profile::{IssuerProfile, ProfileError},
};

/// Profiles by exact issuer, and the limits that hold before the issuer is known.
#[derive(Debug, Default)]
pub struct Profiles {
    by_issuer: BTreeMap<String, IssuerProfile>,
    /// Who is asked about tokens that name no issuer.
    opaque: Option<String>,
    limits: Limits,
    transmitters: Vec<Transmitter>,
}

// === impl Profiles ===

impl Profiles {
    /// Makes the table, with the default [`Limits`]. Profiles that are for transmitters only do not get into it.
    ///
    /// # Errors
    /// Two profiles with one issuer, or two that want the opaque tokens.
    pub fn new(profiles: Vec<IssuerProfile>) -> Result<Self, ProfileError> {
        let mut by_issuer = BTreeMap::new();
        let mut opaque = None;
        for profile in profiles.into_iter().filter(|profile| !profile.is_transmitter()) {
            let issuer = profile.issuer().to_owned();
            if profile.introspection().is_some_and(|introspection| introspection.opaque)
                && let Some(other) = opaque.replace(issuer.clone())
            {
                return Err(ProfileError {
                    field: "introspection.opaque",
                    message: format!(
                        "`{other}` and `{issuer}` both want it, but an opaque token does not say whose it is, and nobody \
                         else may see it; set it for one issuer"
                    ),
                });
            }
            if by_issuer.insert(issuer.clone(), profile).is_some() {
                return Err(ProfileError {
                    field: "issuer",
                    message: format!("two profiles are for `{issuer}`; merge them into one"),
                });
            }
        }
        Ok(Self { by_issuer, opaque, limits: Limits::default(), transmitters: Vec::new() })
    }

    /// The same table with those who may send security event tokens.
    #[must_use]
    pub fn with_transmitters(self, transmitters: Vec<Transmitter>) -> Self {
        Self { transmitters, ..self }
    }

    /// Those who may send security event tokens.
    #[must_use]
    pub fn transmitters(&self) -> &[Transmitter] {
        &self.transmitters
    }

    /// The same table with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The limits that hold before the issuer is known.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The profile for exactly this issuer.
    #[must_use]
    pub fn get(&self, issuer: &str) -> Option<&IssuerProfile> {
        self.by_issuer.get(issuer)
    }

    /// The one profile whose issuer is asked about tokens that name none.
    #[must_use]
    pub fn opaque(&self) -> Option<&IssuerProfile> {
        self.get(self.opaque.as_deref()?)
    }

    /// All profiles, by issuer.
    pub fn iter(&self) -> impl Iterator<Item = &IssuerProfile> {
        self.by_issuer.values()
    }

    /// No profile at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_issuer.is_empty()
    }
}
