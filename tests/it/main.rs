//! The integration tests: one binary, because linking takes longer than running.

// Panics, prints and indexing are fine in tests; without this the lints see only functions that are tests themselves.
#![cfg(test)]

mod cli;
mod config;
mod demo;
mod jwks;
mod limits;
mod opa_cases;
mod opa_rest;
mod policy_hostile;
mod reload;
mod run;
mod stdlib;
mod support;
mod tidy;
