//! The integration tests: one binary, because linking takes longer than running.

// Panics, prints and indexing are fine in tests; without this the lints see only functions that are tests themselves.
#![cfg(test)]

mod admin;
mod check_verb;
mod cli;
mod config;
mod consistency;
mod demo;
mod drain;
mod eval;
mod floods;
mod forward_auth;
mod fuzz;
mod http_send;
mod http_send_doors;
mod http_send_tls;
mod introspection;
mod issuer_events;
mod jwks;
mod jwks_tls;
mod kubernetes;
mod limits;
mod live_subject;
mod nginx;
mod node;
mod offline;
mod oidc_provider;
mod opa_cases;
mod opa_check;
mod opa_differential;
mod opa_generated;
mod opa_identity;
mod opa_reads;
mod opa_rest;
mod policy_hostile;
mod readme;
mod reload;
mod revocation;
mod run;
mod sender;
mod statements;
mod status_lists;
mod stdlib;
mod support;
mod test_verb;
mod tidy;
mod tls;
mod token;
