//! `test --watch`: the tests again after every change, until the process is told to end.

use std::{io, process::ExitCode};

use super::Suite;
use crate::{
    cli::{Exit, output, sources},
    reload::SourceWatch,
    shutdown,
};

pub(super) fn run(suite: &Suite<'_>) -> ExitCode {
    match watch(suite) {
        Ok(()) => Exit::Done.into(),
        Err(error) => {
            output::complain(&format!("files cannot be watched: {error}"));
            Exit::Failed.into()
        }
    }
}

fn watch(suite: &Suite<'_>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let end = shutdown::terminate();
        tokio::pin!(end);
        let (bundles, data) = suite.paths();
        let mut changes = SourceWatch::new(sources::settings(bundles, data));
        loop {
            suite.run();
            output::answer(&format!("{}\nWatching for changes ...\n", "*".repeat(80)))?;
            tokio::select! {
                () = changes.changed() => {}
                ended = &mut end => return ended,
            }
        }
    })
}
