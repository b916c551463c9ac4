//! # The house
//!
//! claimgate verifies a caller's JWT, builds the input document, and decides in Rego. One request walks this line:
//!
//! ```text
//! bytes ─ serve::limits (size, time) ─► http::Request
//!  └ serve::<door>: parse ───────────► AccessRequest + Option<RawToken>            Err → 400
//!     └ snapshot: take Arc<Snapshot> once
//!        └ token: RawToken → UnverifiedHeader → IssuerProfile → VerifyKey → VerifiedClaims   Err → 401 (503 if no keys were ever had)
//!           │  (an opaque token: introspection, what its issuer says → VerifiedClaims)
//!           └ on every request: authorize::admit (revoked, status, live record), token::check_sender     Err → 401, 403, 503
//!           └ input: AccessRequest + Caller ─► policy::Value
//!              └ policy: PolicySet + input ─► Outcome                              Err → Deny (500 on the OPA door)
//!                 └ authorize::decide(Outcome) ─► Decision
//!                    └ telemetry: metrics + decision log
//!  ◄─ serve::<door>: answer
//! ```
//!
//! A change flows the other way: file event (or poll) → debounce → read everything into memory → compile and check →
//! new [`snapshot::Snapshot`] → swap. Any error leaves the old snapshot serving.
//!
//! # The rooms, in reading order
//!
//! Each module may use only what stands above it; `tests/it/tidy.rs` holds that.
//!
//! | layer | module | its single responsibility |
//! |---|---|---|
//! | 0 | [`request`], [`path`], [`shutdown`] | the question; the one path canonicaliser; signals → drain |
//! | 0 | [`state`] | the directory of what outlives a restart: private, and its files whole; how small files are read |
//! | 1 | [`token`] | bytes → `VerifiedClaims`, or why not. The only user of `jsonwebtoken` |
//! | 1 | [`policy`] | (policy set, input) → `Outcome`. The only user of `regorus` |
//! | 2 | [`input`] | the document that policy sees; owns the reserved keys |
//! | 2 | [`snapshot`] | one immutable world and its channel |
//! | 3 | [`authorize`] | outcome + caller → `Decision`; the only place that makes a `Permit` |
//! | 4 | [`telemetry`] | decision log, metrics, log set-up |
//! | 4 | [`outbound`] | the requests that policies send (`http.send`): who may be asked, and for how much |
//! | 4 | [`revocation`] | tokens that were taken back while the program runs, and their journal |
//! | 4 | [`fetch`] | the requests that claimgate itself sends: guarded, bounded, with certificates of the operator |
//! | 4 | [`reload`] | the outside world → new snapshot. The only user of `notify`, of file reads and of requests for keys |
//! | 4 | [`introspection`] | asks issuers about tokens (RFC 7662): opaque ones, and for second opinions |
//! | 4 | [`status_lists`] | fetches and holds the status lists that tokens name |
//! | 5 | [`serve`] | wire ↔ types. The only user of `axum` |
//! | 6 | [`config`] | YAML → each module's own settings; all errors at once |
//! | 7 | [`cli`] | wiring and exit codes |
//!
//! # Invariants
//!
//! 1. `regorus`, `jsonwebtoken`, `axum` and `notify` are each named in exactly one module.
//! 2. No I/O, clock or lock below `outbound`, `fetch`, `reload` and `serve` but in `state`, which the core does not use;
//!    time is an argument, and so is whoever sends the requests of policies.
//! 3. One request uses exactly one `Arc<Snapshot>`.
//! 4. `Permit` and `VerifiedClaims` have private fields and one constructor each.
//! 5. Every `Err` ends as a Deny with a stable code; no panic on the request path.
//! 6. What claimgate asserts (`token`, `live`, `meta`, and `request` on the doors that build it) can never come from a
//!    client: an input that sets a reserved key is refused.
//! 7. A token's bytes have no `Display`, a redacted `Debug`, and reach no log, metric, error or decision event.

pub mod path;
pub mod request;
pub mod shutdown;
pub mod state;

pub mod policy;
pub mod token;

pub mod input;
pub mod snapshot;

pub mod authorize;

pub mod outbound;

pub mod fetch;
pub mod reload;
pub mod revocation;
pub mod telemetry;

pub mod introspection;
pub mod status_lists;

pub mod serve;

pub mod config;

pub mod cli;
