//! `claimgate version`: what this binary is.

use std::process::ExitCode;

use clap::Args;

use super::output;

/// The Rego engine's version; a test holds it against `Cargo.lock`.
const ENGINE: &str = "0.14.1";

const EXAMPLES: &str = "\
Examples:
  claimgate version
  claimgate --version      the first line only";

/// Arguments of `version`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct VersionArgs {}

pub(super) fn run(_: &VersionArgs) -> ExitCode {
    output::finish(&text())
}

fn text() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("claimgate {}\nengine: regorus {ENGINE}, Rego v1\nplatform: {os}/{arch}\n", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_is_the_locked_one() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"regorus\"\nversion = \"{ENGINE}\"\n")), "{ENGINE} is not locked");
    }
}
