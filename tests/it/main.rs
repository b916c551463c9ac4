//! The integration tests: one binary, because linking takes longer than running.

mod cli;
mod config;
mod demo;
mod jwks;
mod reload;
mod tidy;
