//! The integration tests: one binary, because linking takes longer than running.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do; `.clippy.toml` only exempts the test functions themselves"
)]

mod cli;
mod config;
mod demo;
mod jwks;
mod reload;
mod tidy;
