//! One fetch of keys: metadata when due, then the key set. It borrows nothing from the task and keeps no state; what is
//! known afterwards is in its result.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    super::{
        KeySource,
        discovery::{self, Metadata},
        network::{Answer, FetchError, Get, Transport},
    },
    TTL_RANGE,
};
use crate::{
    fetch::{self, Url},
    token::IssuerProfile,
};

/// Everything that one fetch needs.
pub(super) struct Plan {
    pub(super) profile: IssuerProfile,
    pub(super) source: KeySource,
    pub(super) allow_http: bool,
    pub(super) default_ttl: Duration,
    pub(super) max_stale: Duration,
    pub(super) discovered: Option<Discovered>,
    pub(super) etag: Option<String>,
    /// Look at the files of certificates first.
    pub(super) looks: bool,
}

/// Where the metadata said that the keys are.
#[derive(Debug, Clone)]
pub(super) struct Discovered {
    jwks: Url,
    /// Until then the metadata is not asked again.
    fresh_until: Instant,
    /// Until then it is believed when the metadata cannot be had.
    usable_until: Instant,
    /// Which of the places of metadata it was.
    place: usize,
}

/// What a fetch gave.
pub(super) struct Fetched {
    pub(super) answer: Result<Answer, FetchError>,
    pub(super) discovered: Option<Discovered>,
    /// When it was asked and is usable.
    pub(super) metadata: Option<Metadata>,
}

impl Plan {
    /// Metadata when due, then keys.
    pub(super) async fn fetch<T: Transport>(mut self, transport: Arc<T>) -> Fetched {
        if self.looks {
            transport.look().await;
        }
        let mut metadata = None;
        let answer = self.steps(&*transport, &mut metadata).await;
        // Keys that are not where the metadata said may have moved: ask the metadata again next time.
        if let (Err(_), Some(discovered)) = (&answer, &mut self.discovered) {
            discovered.fresh_until = Instant::now();
        }
        Fetched { answer, discovered: self.discovered, metadata }
    }

    async fn steps<T: Transport>(
        &mut self,
        transport: &T,
        metadata: &mut Option<Metadata>,
    ) -> Result<Answer, FetchError> {
        let url = match &self.source {
            KeySource::None | KeySource::File(_) | KeySource::Inline(_) => {
                return Err(fetch::Error::Client { reason: "local keys are not fetched".to_owned() }.into());
            }
            KeySource::Url { url, .. } => fetch::admit(url, self.allow_http)?,
            KeySource::Discovery { url, .. } => {
                let places = discovery::places(self.profile.issuer(), url.as_deref(), self.allow_http)?;
                self.whereabouts(transport, &places, metadata).await?
            }
        };
        transport.get(Get { url, etag: self.etag.take() }).await
    }

    /// Where the keys are. Metadata that cannot be had any more leaves them where they were.
    async fn whereabouts<T: Transport>(
        &mut self,
        transport: &T,
        places: &[Url],
        metadata: &mut Option<Metadata>,
    ) -> Result<Url, FetchError> {
        let known = self.discovered.clone();
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.fresh_until) {
            return Ok(known.jwks.clone());
        }
        match self.discover(transport, places).await {
            Ok(found) => {
                let jwks = found.jwks.clone();
                *metadata = Some(found);
                Ok(jwks)
            }
            Err(error) => match known.filter(|known| Instant::now() < known.usable_until) {
                Some(known) => {
                    let (issuer, code) = (self.profile.issuer(), error.code());
                    tracing::warn!(issuer, code, %error, "the metadata cannot be had; keys are asked for where they were");
                    Ok(known.jwks)
                }
                None => Err(error),
            },
        }
    }

    /// Asks the places of metadata in turn, that of the last success first. A server that does not answer at all is not
    /// asked twice.
    async fn discover<T: Transport>(&mut self, transport: &T, places: &[Url]) -> Result<Metadata, FetchError> {
        let first = self.discovered.as_ref().map_or(0, |known| known.place).min(places.len().saturating_sub(1));
        let order = [first].into_iter().chain((0..places.len()).filter(|place| *place != first));
        let mut failures: Vec<(usize, FetchError)> = Vec::new();
        for place in order {
            let Some(url) = places.get(place) else { continue };
            match self.ask(transport, url).await {
                Ok((metadata, max_age)) => {
                    self.remember(&metadata, max_age, place);
                    return Ok(metadata);
                }
                Err(error) if !error.is_answer() => return Err(error),
                Err(error) => failures.push((place, error)),
            }
        }
        failures.sort_by_key(|(place, _)| *place);
        let mut failures = failures.into_iter().map(|(_, error)| Box::new(error));
        match (failures.next(), failures.next()) {
            (Some(openid), Some(oauth)) => Err(FetchError::NoMetadata { openid, oauth }),
            (Some(only), None) => Err(*only),
            (None, _) => Err(FetchError::BadMetadata { reason: "there is no place to ask".to_owned() }),
        }
    }

    async fn ask<T: Transport>(&self, transport: &T, url: &Url) -> Result<(Metadata, Option<Duration>), FetchError> {
        let answer = transport.get(Get { url: url.clone(), etag: None }).await?;
        let Answer::Body { bytes, max_age, .. } = answer else { return Err(FetchError::StrayNotModified) };
        let (issuer, algorithms) = (self.profile.issuer(), self.profile.algorithms());
        Ok((discovery::read(&bytes, issuer, url, self.allow_http, algorithms)?, max_age))
    }

    fn remember(&mut self, metadata: &Metadata, max_age: Option<Duration>, place: usize) {
        if self.discovered.as_ref().is_none_or(|old| old.jwks != metadata.jwks) {
            // An entity tag belongs to one URL.
            self.etag = None;
        }
        let ttl = max_age.map_or(self.default_ttl, |age| age.clamp(TTL_RANGE.0, TTL_RANGE.1));
        let fresh_until = Instant::now() + ttl;
        let usable_until = fresh_until + self.max_stale;
        self.discovered = Some(Discovered { jwks: metadata.jwks.clone(), fresh_until, usable_until, place });
    }
}
