//! Stdout and stderr, for verbs. Answers go to stdout, complaints to stderr; a reader that has gone away ends neither.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use super::Exit;

/// Writes an answer to stdout. A closed pipe (`claimgate … | head`) is not an error; a full disk is.
pub(super) fn answer(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Writes one complaint to stderr.
pub(super) fn complain(message: &str) {
    // Where stderr is gone, nobody can be told.
    let _ = writeln!(io::stderr().lock(), "claimgate: {message}");
}

/// Writes a line to stderr that is no complaint of claimgate's own: what a policy prints, OPA's sentences.
pub(super) fn note(line: &str) {
    // As above.
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes problems to stderr, one a line and position first, so that editors can jump to them; then what follows.
pub(super) fn complain_of<P: Display>(problems: &[P], consequence: &str) {
    let mut err = io::stderr().lock();
    for problem in problems {
        // As above.
        let _ = writeln!(err, "{problem}");
    }
    let count = match problems.len() {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    let _ = writeln!(err, "claimgate: {count}; {consequence}");
}

/// Writes the answer that a verb ends with.
pub(super) fn finish(text: &str) -> ExitCode {
    match answer(text) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            complain(&format!("stdout cannot be written: {error}"));
            Exit::Failed.into()
        }
    }
}
