//! The integration tests: one binary, because linking takes longer than running.

mod config;
mod token;
