//! Asks issuers about tokens (RFC 7662): about opaque ones, which say nothing themselves, and for a second opinion about
//! JWTs. What an answer means is judged in [`crate::token`]; here are the question, the wait for it, and what is remembered.
//!
//! ```text
//! network   one question over `fetch`: credentials, time, size, what a status means
//! issuer    one question under way for each token, few at a time for each issuer
//! known     answers that still hold: the active and the inactive ones apart
//! breaker   rest for an endpoint that fails
//! ```
//!
//! A token goes to the issuer that owns it and to nobody else: a JWT to the one whose signature it carries, an opaque token
//! to the only one that may have them. Whatever goes wrong, the token does not pass. No token is logged or counted by, and
//! none is kept: answers are remembered by SHA-256.

mod breaker;
mod issuer;
mod known;
mod network;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use serde::Serialize;

use self::{
    issuer::{Issuer, Question, Said},
    network::Network,
};
use crate::{
    input::KnownCaller,
    snapshot::{Handle, Snapshot},
    telemetry::IntrospectionMetrics,
    token::{Caller, IssuerProfile, JwtOpinion, Profiles, RawToken, TokenError, VerifiedClaims, is_jose},
};

/// Asks every issuer whose profile says so.
#[derive(Debug)]
pub struct Introspection {
    snapshots: Handle,
    metrics: IntrospectionMetrics,
    desks: RwLock<Desks>,
}

/// How it goes with one issuer, for the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `closed`: it is asked. `open`: it is given a rest. `half_open`: one question probes it.
    pub breaker: &'static str,
    /// Failures since the last answer.
    pub failures: u32,
    /// Code of the last one; none since an answer came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<&'static str>,
    /// Questions under way.
    pub in_flight: usize,
}

/// Who is asked, by issuer, for one state of the profiles.
#[derive(Debug, Default)]
struct Desks {
    made_for: Option<Arc<Profiles>>,
    by_issuer: BTreeMap<String, Arc<Issuer<Network>>>,
}

// === impl Introspection ===

impl Introspection {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(snapshots: Handle, metrics: IntrospectionMetrics) -> Self {
        Self { snapshots, metrics, desks: RwLock::default() }
    }

    /// Who presents this token, when it is an opaque one and an issuer of `snapshot` has such; `None`: it is not, or none
    /// has, and the token is for [`crate::token::verify()`].
    pub async fn identify(
        &self,
        snapshot: &Snapshot,
        raw: &RawToken,
        now: SystemTime,
    ) -> Option<Result<KnownCaller, TokenError>> {
        let profile = snapshot.profiles.opaque().filter(|_| !is_jose(raw))?;
        let said = self.ask(snapshot, profile, raw, Question::Opaque, now).await;
        Some(match said {
            Ok(Said::Caller(known)) => Ok(known),
            Ok(Said::Confirmed) => Err(issuer::abandoned(profile)),
            Err(error) => Err(error),
        })
    }

    /// Is the issuer of this JWT asked about it?
    #[must_use]
    pub fn asks_about(snapshot: &Snapshot, claims: &VerifiedClaims) -> bool {
        second_opinion(snapshot, claims).is_some()
    }

    /// The second opinion about a JWT that passed every local check, where the profile of its issuer asks for one.
    ///
    /// # Errors
    /// [`TokenError::Introspection`], and what the answer says against the token.
    pub async fn confirm(
        &self,
        snapshot: &Snapshot,
        raw: &RawToken,
        caller: &Caller,
        now: SystemTime,
    ) -> Result<(), TokenError> {
        let Caller::Verified(claims) = caller else { return Ok(()) };
        let Some(profile) = second_opinion(snapshot, claims) else { return Ok(()) };
        self.ask(snapshot, profile, raw, Question::Opinion(Arc::clone(claims)), now).await.map(drop)
    }

    /// How it goes with each issuer that was asked since the profiles changed.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, Report> {
        let desks = self.desks.read().unwrap_or_else(PoisonError::into_inner);
        desks.by_issuer.iter().map(|(name, issuer)| (name.clone(), issuer.report())).collect()
    }

    async fn ask(
        &self,
        snapshot: &Snapshot,
        profile: &IssuerProfile,
        raw: &RawToken,
        question: Question,
        now: SystemTime,
    ) -> Result<Said, TokenError> {
        let issuer = self.desk(&snapshot.profiles, profile)?;
        let keys = snapshot.keys.get(profile.issuer()).cloned();
        issuer.ask(raw, snapshot.profiles.limits(), question, keys, now).await
    }

    /// Where this issuer is asked. An issuer whose profile did not change keeps its answers and its breaker.
    fn desk(&self, profiles: &Arc<Profiles>, profile: &IssuerProfile) -> Result<Arc<Issuer<Network>>, TokenError> {
        let find = |desks: &Desks| {
            let is_current = desks.made_for.as_ref().is_some_and(|made_for| Arc::ptr_eq(made_for, profiles));
            if is_current { desks.by_issuer.get(profile.issuer()).cloned() } else { None }
        };
        if let Some(issuer) = find(&self.desks.read().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(issuer);
        }
        let mut desks = self.desks.write().unwrap_or_else(PoisonError::into_inner);
        if find(&desks).is_none() {
            desks.replace(profiles, &self.snapshots, &self.metrics);
        }
        desks.by_issuer.get(profile.issuer()).cloned().ok_or_else(|| issuer::abandoned(profile))
    }
}

fn second_opinion<'s>(snapshot: &'s Snapshot, claims: &VerifiedClaims) -> Option<&'s IssuerProfile> {
    let profile = snapshot.profiles.get(claims.issuer())?;
    profile.introspection().is_some_and(|settings| settings.jwt == JwtOpinion::Always).then_some(profile)
}

// === impl Desks ===

impl Desks {
    fn replace(&mut self, profiles: &Arc<Profiles>, snapshots: &Handle, metrics: &IntrospectionMetrics) {
        let mut before = std::mem::take(&mut self.by_issuer);
        for profile in profiles.iter() {
            let Some(settings) = profile.introspection() else { continue };
            let kept = before.remove(profile.issuer()).filter(|issuer| issuer.profile() == profile);
            let issuer = kept.unwrap_or_else(|| {
                let network = Network::new(profile.issuer(), settings, snapshots.clone());
                Arc::new(Issuer::new(profile.clone(), network, metrics.of(profile.issuer()), SystemTime::now))
            });
            self.by_issuer.insert(profile.issuer().to_owned(), issuer);
        }
        self.made_for = Some(Arc::clone(profiles));
    }
}
