//! One issuer that is asked: what it said before, one question under way for each token, a bounded number of them, and the
//! breaker. A question goes on when whoever asked it has gone: others may wait for the same answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{
    Report,
    breaker::{Breaker, Pass, State},
    known::Known,
    network::Transport,
};
use crate::{
    input::KnownCaller,
    telemetry::{IntrospectionCounts, Kept},
    token::{
        AnswerForm, Caller, Fault, Fingerprint, IntrospectionError, IntrospectionFault, IntrospectionRequest,
        IssuerProfile, KeySet, Limits, RawToken, TokenError, VerifiedClaims, confirm, judge_answer,
    },
};

/// What is asked about a token.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Whose is it, and what may it do?
    Opaque,
    /// Is this JWT, of which we know the rest, still active?
    Opinion(Arc<VerifiedClaims>),
}

/// What an issuer said for a token.
#[derive(Debug, Clone)]
pub(super) enum Said {
    /// Who presents an opaque token.
    Caller(KnownCaller),
    /// A JWT is active.
    Confirmed,
}

/// Where one issuer is asked.
#[derive(Debug)]
pub(super) struct Issuer<T> {
    profile: IssuerProfile,
    transport: T,
    known: Known,
    flights: Mutex<HashMap<Fingerprint, Answer>>,
    places: Arc<Semaphore>,
    limit: usize,
    health: Mutex<Health>,
    counts: IntrospectionCounts,
    clock: fn() -> SystemTime,
}

/// Comes when the question is answered; `None` until then.
type Answer = watch::Receiver<Option<Result<Said, TokenError>>>;

#[derive(Debug, Default)]
struct Health {
    breaker: Breaker,
    last_failure: Option<&'static str>,
    told_at: Option<Instant>,
}

/// One question under way. When it ends, however it does, its place is free and nobody waits for it.
struct Flight<T: Transport> {
    issuer: Arc<Issuer<T>>,
    fingerprint: Fingerprint,
    answer: watch::Sender<Option<Result<Said, TokenError>>>,
    _place: OwnedSemaphorePermit,
}

/// A failure that one token can bring about is told at most this often.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Nobody can say anything about the token: for cases that cannot be.
pub(super) fn abandoned(profile: &IssuerProfile) -> TokenError {
    unavailable(profile, IntrospectionFault::Unreachable("the question was given up".to_owned()))
}

fn unavailable(profile: &IssuerProfile, cause: IntrospectionFault) -> TokenError {
    IntrospectionError::Unavailable { issuer: profile.issuer().to_owned(), cause }.into()
}

// === impl Issuer ===

impl<T: Transport> Issuer<T> {
    pub(super) fn new(
        profile: IssuerProfile,
        transport: T,
        counts: IntrospectionCounts,
        clock: fn() -> SystemTime,
    ) -> Self {
        let limit = profile.introspection().map_or(1, |settings| settings.concurrency);
        Self {
            known: Known::new(&profile),
            profile,
            transport,
            flights: Mutex::default(),
            places: Arc::new(Semaphore::new(limit)),
            limit,
            health: Mutex::default(),
            counts,
            clock,
        }
    }

    pub(super) fn profile(&self) -> &IssuerProfile {
        &self.profile
    }

    /// What the issuer says about `raw`: from memory while that holds, or by asking.
    pub(super) async fn ask(
        self: &Arc<Self>,
        raw: &RawToken,
        limits: Limits,
        question: Question,
        keys: Option<Arc<KeySet>>,
        now: SystemTime,
    ) -> Result<Said, TokenError> {
        let Some(fingerprint) = raw.fingerprint(limits) else {
            // Refused for its length, with the right numbers.
            return Err(IntrospectionRequest::new(raw, limits).err().unwrap_or_else(|| abandoned(&self.profile)));
        };
        if let Some(said) = self.recall(&fingerprint, keys.as_ref(), now) {
            return said;
        }
        let mut answer = {
            let mut flights = lock(&self.flights);
            // It may have come between the look and the lock.
            if let Some(said) = self.recall(&fingerprint, keys.as_ref(), now) {
                return said;
            }
            match flights.get(&fingerprint) {
                Some(answer) => answer.clone(),
                None => {
                    let answer = self.begin(raw, limits, fingerprint, question, keys)?;
                    flights.insert(fingerprint, answer.clone());
                    answer
                }
            }
        };
        let said = answer.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
        said.unwrap_or_else(|| Err(abandoned(&self.profile)))
    }

    fn recall(
        &self,
        fingerprint: &Fingerprint,
        keys: Option<&Arc<KeySet>>,
        now: SystemTime,
    ) -> Option<Result<Said, TokenError>> {
        let said = self.known.get(fingerprint, &self.profile, keys, now)?;
        self.counts.recalled(if said.is_ok() { Kept::Active } else { Kept::Inactive });
        Some(said)
    }

    /// Starts a question, when there is a place for it and the endpoint has no rest.
    fn begin(
        self: &Arc<Self>,
        raw: &RawToken,
        limits: Limits,
        fingerprint: Fingerprint,
        question: Question,
        keys: Option<Arc<KeySet>>,
    ) -> Result<Answer, TokenError> {
        let form = IntrospectionRequest::new(raw, limits)?;
        let not_asked = |fault: IntrospectionFault| {
            self.counts.answered(fault.code(), None);
            unavailable(&self.profile, fault)
        };
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| not_asked(IntrospectionFault::Busy { limit: self.limit }))?;
        let pass = {
            let mut health = lock(&self.health);
            let pass = health.breaker.admit(Instant::now());
            self.counts.breaker(health.breaker.state().level());
            pass.ok_or_else(|| not_asked(IntrospectionFault::CircuitOpen))?
        };
        let (sender, answer) = watch::channel(None);
        self.counts.began();
        let flight = Flight { issuer: Arc::clone(self), fingerprint, answer: sender, _place: place };
        tokio::spawn(flight.fly(form, question, keys, pass));
        Ok(answer)
    }

    fn judge(
        &self,
        question: &Question,
        (form, body): (AnswerForm, Vec<u8>),
        keys: Option<&Arc<KeySet>>,
    ) -> Result<Said, TokenError> {
        let (keys, now) = (keys.map(Arc::as_ref), (self.clock)().into());
        match question {
            Question::Opaque => judge_answer(form, &body, &self.profile, keys, now)
                .map(|claims| Said::Caller(KnownCaller::new(Caller::Verified(Arc::new(claims))))),
            Question::Opinion(claims) => {
                confirm(claims, form, &body, &self.profile, keys, now).map(|()| Said::Confirmed)
            }
        }
    }

    /// What the answer says about the endpoint, and the log about that: once for each change.
    fn note(&self, pass: Pass, fault: Option<&IntrospectionFault>) {
        let (now, issuer) = (Instant::now(), self.profile.issuer());
        let mut health = lock(&self.health);
        let before = health.last_failure;
        match fault {
            Some(fault) if fault.is_of_endpoint() => {
                health.last_failure = Some(fault.code());
                if let Some(rest) = health.breaker.failed(pass, now, jitter()) {
                    tracing::warn!(
                        issuer, code = fault.code(), cause = %fault, ?rest,
                        "introspection fails again and again: its tokens are answered with 503 until a probe succeeds"
                    );
                } else if before.is_none() {
                    tracing::warn!(issuer, code = fault.code(), cause = %fault, "introspection failed");
                }
            }
            other => {
                if health.breaker.succeeded() {
                    tracing::info!(issuer, "introspection works again");
                } else if before.is_some() && other.is_none() {
                    tracing::info!(issuer, "introspection answered again");
                }
                health.last_failure = other.map(IntrospectionFault::code);
                if let Some(fault) = other
                    && health.told_at.is_none_or(|at| now.duration_since(at) >= TELL_AGAIN)
                {
                    health.told_at = Some(now);
                    tracing::warn!(issuer, code = fault.code(), cause = %fault, "an introspection answer is of no use");
                }
            }
        }
        self.counts.breaker(health.breaker.state().level());
    }

    pub(super) fn report(&self) -> Report {
        let health = lock(&self.health);
        Report {
            breaker: State::name(health.breaker.state()),
            failures: health.breaker.failures(),
            last_failure: health.last_failure,
            in_flight: self.limit.saturating_sub(self.places.available_permits()),
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        self.known.lengths()
    }
}

// === impl Flight ===

impl<T: Transport> Flight<T> {
    async fn fly(self, form: IntrospectionRequest, question: Question, keys: Option<Arc<KeySet>>, pass: Pass) {
        let issuer = &self.issuer;
        let began = Instant::now();
        let received = issuer.transport.ask(form).await;
        let took = began.elapsed();
        let said = match received {
            Ok(answer) => issuer.judge(&question, answer, keys.as_ref()),
            Err(fault) => Err(unavailable(&issuer.profile, fault)),
        };
        let fault = match &said {
            Err(TokenError::Introspection(IntrospectionError::Unavailable { cause, .. })) => Some(cause),
            _ => None,
        };
        issuer.note(pass, fault);
        let result = match &said {
            Ok(_) => "active",
            Err(error) if error.fault() == Fault::Token && error.code() == "token_inactive" => "inactive",
            Err(error) if error.fault() == Fault::Token => "refused",
            Err(_) => fault.map_or("refused", IntrospectionFault::code),
        };
        issuer.counts.answered(result, Some(took));
        issuer.known.keep(self.fingerprint, &said, keys);
        // Whoever waits is told after the answer can be found in memory; nobody may wait any more.
        let _ = self.answer.send(Some(said));
    }
}

impl<T: Transport> Drop for Flight<T> {
    fn drop(&mut self) {
        lock(&self.issuer.flights).remove(&self.fingerprint);
        self.issuer.counts.ended();
    }
}

// === impl Said ===

impl Said {
    /// Do the dates of the claims hold at `now`?
    pub(super) fn claims_hold(&self, profile: &IssuerProfile, now: SystemTime) -> bool {
        match self {
            Self::Confirmed => true,
            Self::Caller(known) => match known.caller() {
                Caller::Verified(claims) => claims.check_times(profile, now.into()).is_ok(),
                Caller::Anonymous => false,
            },
        }
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// 0 to 1, so that replicas do not probe all at once.
fn jitter() -> f64 {
    let [byte, ..] = uuid::Uuid::new_v4().into_bytes();
    f64::from(byte) / 255.0
}
