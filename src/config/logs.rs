//! The program's log and the decision log → `telemetry`'s settings.

use super::{problem::Code, section::Section, tree::shorten};
use crate::telemetry::{DecisionLogSettings, Destination, Format, LogSettings};

/// `log`.
pub(super) fn read_log(root: &mut Section<'_>) -> LogSettings {
    let default = LogSettings::default();
    let mut section = root.section("log");
    let level = section.text("level");
    let formats = [("text", Format::Text), ("json", Format::Json)];
    let format = section.choice("format", &formats, default.format);
    let settings = LogSettings { format, level: level.as_ref().map_or(default.level, |text| text.text.clone()) };
    if let (Err(error), Some(level)) = (settings.check(), &level) {
        section.problem_at(level, error.to_string());
    }
    section.finish();
    settings
}

/// `decision_log`.
pub(super) fn read_decision_log(root: &mut Section<'_>) -> DecisionLogSettings {
    #[derive(Clone, Copy, PartialEq)]
    enum To {
        None,
        Stdout,
        File,
    }
    let mut section = root.section("decision_log");
    let path = section.text("path");
    // A path says enough.
    let default = if path.is_some() { To::File } else { To::None };
    let to = section.choice("to", &[("none", To::None), ("stdout", To::Stdout), ("file", To::File)], default);
    let destination = match (to, &path) {
        (To::File, Some(path)) => Destination::File(section.resolve(path)),
        (To::File, None) => {
            if !section.concerns("path") {
                section.problem(Code::MissingKey, "path", "it is not set, but `to` is `file`; write the file's path");
            }
            Destination::None
        }
        (To::None | To::Stdout, Some(path)) => {
            section.problem_at(path, "it is for `to: file` only; remove it, or write `to: file`");
            Destination::None
        }
        (To::None, None) => Destination::None,
        (To::Stdout, None) => Destination::Stdout,
    };
    if let Destination::File(file) = &destination
        && let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty())
        && !directory.is_dir()
    {
        section.problem(Code::PathNotFound, "path", format!("`{}` is not a directory; make it", directory.display()));
    }
    let mask = section.texts("mask", &[]);
    for pointer in &mask {
        let inside = ["/input", "/result"]
            .iter()
            .any(|root| pointer.text.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
        if !inside {
            let message = format!(
                "`{}` is not a JSON pointer below `/input` or `/result`; write one such as `/input/request/query`",
                shorten(&pointer.text)
            );
            section.problem_at(pointer, message);
        }
    }
    let settings = DecisionLogSettings {
        destination,
        labels: section.text_map("labels"),
        mask: mask.into_iter().map(|pointer| pointer.text).collect(),
        queue: section.count("queue", DecisionLogSettings::default().queue, 1..=1_000_000),
    };
    section.finish();
    settings
}
