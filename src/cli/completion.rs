//! `claimgate completion SHELL`: a completion script, made from the arguments themselves.

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, output};

const EXAMPLES: &str = "\
Examples:
  # bash, for this shell
  source <(claimgate completion bash)

  # zsh and fish, for good
  claimgate completion zsh > \"${fpath[1]}/_claimgate\"
  claimgate completion fish > ~/.config/fish/completions/claimgate.fish";

/// Arguments of `completion`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CompletionArgs {
    /// The shell
    shell: Shell,
}

pub(super) fn run(args: &CompletionArgs) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "claimgate", &mut script);
    output::finish(&String::from_utf8_lossy(&script))
}
