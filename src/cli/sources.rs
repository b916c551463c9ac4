//! What `eval` and `test` evaluate: policies and data read as `run` reads them, and whatever is wrong with them in the
//! shapes that OPA prints. It evaluates nothing.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use regex::Regex;

use crate::{
    outbound::{self, Host, Outbound},
    policy::{self, EvalError, EvalErrorKind, HttpSend, LoadError, Location, PolicySet, Source, quote},
    reload::{self, BundleSpec, DataSpec},
    snapshot::Problem,
};

/// A budget nobody reaches, where no limit was asked for.
pub(super) const UNLIMITED: Duration = Duration::from_secs(24 * 60 * 60);

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(super) struct Complaint {
    /// OPA's code where OPA has one.
    pub(super) code: Option<String>,
    pub(super) message: String,
    pub(super) location: Option<Location>,
    /// Lines that say more, where they are read by people.
    pub(super) details: Vec<String>,
}

/// Names that are not loaded.
#[derive(Debug, Default)]
pub(super) struct Ignore(Vec<Regex>);

/// Bundles and plain files as the settings of who reads and watches them.
pub(super) fn settings(bundles: &[String], data: &[String]) -> reload::Settings {
    reload::Settings {
        bundles: bundles
            .iter()
            .map(|path| BundleSpec { name: path.trim_end_matches('/').to_owned(), path: PathBuf::from(clean(path)) })
            .collect(),
        data: data
            .iter()
            .map(|text| {
                let Ok(mut spec) = text.parse::<DataSpec>();
                spec.path = PathBuf::from(clean(&spec.path.to_string_lossy()));
                spec
            })
            .collect(),
        ..reload::Settings::default()
    }
}

/// Reads bundles and plain files.
pub(super) fn read(bundles: &[String], data: &[String], ignore: &Ignore) -> Result<Vec<Source>, Vec<Complaint>> {
    let sources = reload::read_sources(&settings(bundles, data));
    let mut sources = sources.map_err(|problems| problems.iter().map(Complaint::from).collect::<Vec<_>>())?;
    for source in &mut sources {
        source.files.retain(|file| !ignore.matches(&file.path));
    }
    Ok(sources)
}

/// Who sends the requests of `http.send`. There always is somebody: policies that call it load, so that their tests can
/// replace it, and a call to a host that is not listed ends the evaluation.
fn http(allow: &[Host]) -> Arc<dyn HttpSend> {
    Arc::new(Outbound::new(outbound::Settings { allow: allow.to_vec(), ..outbound::Settings::default() }))
}

/// A path as OPA shows it: without steps that lead nowhere.
fn clean(path: &str) -> String {
    let steps: Vec<&str> = path.split('/').filter(|step| !matches!(*step, "" | ".")).collect();
    match (steps.join("/"), path.starts_with('/')) {
        (steps, true) => format!("/{steps}"),
        (steps, false) if steps.is_empty() => ".".to_owned(),
        (steps, false) => steps,
    }
}

/// How to compile them.
#[derive(Debug, Clone)]
pub(super) struct Loading {
    /// What each evaluation may take.
    pub(super) deadline: Duration,
    /// Who sends the requests of `http.send`.
    pub(super) http: Arc<dyn HttpSend>,
    /// Files of which nothing says what they are written for are Rego v0.
    pub(super) v0: bool,
    /// What OPA's strict mode refuses is refused.
    pub(super) is_strict: bool,
    /// Most problems that are told; 0: as many as are worth reading.
    pub(super) max_errors: usize,
}

/// A duration as Go writes it: `500ms`, `5s`, `1m`; a bare 0 stands for no limit.
pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(UNLIMITED);
    }
    parse_duration(text).map(|duration| if duration.is_zero() { UNLIMITED } else { duration.min(UNLIMITED) })
}

/// A duration as Go writes it.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write a number and a unit, such as `500ms`, `5s` or `1m`");
    let split = text.find(|c: char| c.is_ascii_alphabetic() || c == 'µ').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

/// OPA's `{"errors": […]}`.
pub(super) fn errors_json(complaints: &[Complaint]) -> String {
    let mut text = String::from("{\n  \"errors\": [");
    for (index, complaint) in complaints.iter().enumerate() {
        text.push_str(if index == 0 { "\n    " } else { ",\n    " });
        text.push_str(&complaint.json(4));
    }
    text.push_str("\n  ]\n}\n");
    text
}

/// OPA tells files that cannot be read from modules that cannot be compiled.
pub(super) fn during(complaints: &[Complaint]) -> &'static str {
    if complaints.iter().all(Complaint::is_of_compiler) { "" } else { " during loading" }
}

/// OPA's `1 error occurred: …`.
pub(super) fn errors_text(complaints: &[Complaint], during: &str) -> String {
    match complaints {
        [one] => format!("1 error occurred{during}: {}\n", one.line()),
        many => {
            let mut text = format!("{} errors occurred{during}:\n", many.len());
            for complaint in many {
                let _ = writeln!(text, "{}", complaint.line());
            }
            text
        }
    }
}

// === impl Loading ===

impl Loading {
    pub(super) fn new(deadline: Duration, allow: &[Host], v0: bool) -> Self {
        Self { deadline, http: http(allow), v0, is_strict: false, max_errors: 10 }
    }

    /// Compiles them.
    pub(super) fn load(&self, sources: Vec<Source>) -> Result<PolicySet, Vec<Complaint>> {
        self.compile(sources, false)
    }

    /// The same, for coverage.
    pub(super) fn load_for_coverage(&self, sources: Vec<Source>) -> Result<PolicySet, Vec<Complaint>> {
        self.compile(sources, true)
    }

    fn compile(&self, sources: Vec<Source>, coverage: bool) -> Result<PolicySet, Vec<Complaint>> {
        let settings = policy::Settings {
            deadline: self.deadline,
            io_deadline: self.deadline,
            http: Some(Arc::clone(&self.http)),
            v0_compatible: self.v0,
            is_strict: self.is_strict,
            max_errors: self.max_errors,
            coverage,
            ..policy::Settings::default()
        };
        PolicySet::load(sources, &settings).map_err(|errors| errors.iter().map(Complaint::from).collect())
    }
}

// === impl Complaint ===

impl Complaint {
    pub(super) fn plain(message: impl Into<String>) -> Self {
        Self { code: None, message: message.into(), location: None, details: Vec::new() }
    }

    /// Was every module read, and this found when they were put together?
    fn is_of_compiler(&self) -> bool {
        self.code.as_deref().is_some_and(|code| code.starts_with("rego_") && code != "rego_parse_error")
    }

    /// An indented JSON object; its first line stands where it is put, the others are indented by `indent`.
    pub(super) fn json(&self, indent: usize) -> String {
        let pad = " ".repeat(indent);
        let mut text = format!("{{\n{pad}  \"message\": {}", quote(&self.message));
        if let Some(code) = &self.code {
            let _ = write!(text, ",\n{pad}  \"code\": {}", quote(code));
        }
        if let Some(Location { file, row, col }) = &self.location {
            let file = quote(file);
            let _ = write!(
                text,
                ",\n{pad}  \"location\": {{\n{pad}    \"file\": {file},\n{pad}    \"row\": {row},\n{pad}    \"col\": {col}\n{pad}  }}"
            );
        }
        let _ = write!(text, "\n{pad}}}");
        text
    }

    /// One line, position first, and the lines below it that say more.
    pub(super) fn line(&self) -> String {
        let place = match &self.location {
            Some(Location { file, row, col }) if file.is_empty() => format!("{row}:{col}: "),
            Some(Location { file, row, .. }) => format!("{file}:{row}: "),
            None => String::new(),
        };
        let details: String = self.details.iter().map(|line| format!("\n\t{line}")).collect();
        match &self.code {
            Some(code) => format!("{place}{code}: {}{details}", self.message),
            None => format!("{place}{}{details}", self.message),
        }
    }
}

impl From<&Problem> for Complaint {
    fn from(problem: &Problem) -> Self {
        // These messages name the file themselves.
        Self { code: Some(problem.code.clone()), ..Self::plain(problem.message.clone()) }
    }
}

impl From<&LoadError> for Complaint {
    fn from(error: &LoadError) -> Self {
        let code = Some(error.code.to_owned());
        match &error.location {
            Some(location) if location.row == 0 => {
                Self { code, ..Self::plain(format!("{}: {}", location.file, error.message)) }
            }
            location => Self {
                code,
                message: error.message.clone(),
                location: location.clone(),
                details: error.details.clone(),
            },
        }
    }
}

impl From<&EvalError> for Complaint {
    fn from(error: &EvalError) -> Self {
        let code = match error.kind {
            EvalErrorKind::Deadline => "eval_cancel_error",
            _ => error.code(),
        };
        let location = error.location.clone().map(|location| match location.file.as_str() {
            // The query has no name.
            "query" => Location { file: String::new(), ..location },
            _ => location,
        });
        Self { code: Some(code.to_owned()), location, details: error.details.clone(), ..Self::plain(error.text()) }
    }
}

// === impl Ignore ===

impl Ignore {
    /// Patterns with `*`, `?` and `[…]`, each held against the names of files and directories, and against whole paths.
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        let compile = |pattern: &String| {
            let mut text = String::from("^");
            for c in pattern.trim_end_matches('/').chars() {
                match c {
                    '*' => text.push_str("[^/]*"),
                    '?' => text.push_str("[^/]"),
                    '[' | ']' | '-' | '^' => text.push(c),
                    c => text.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
                }
            }
            text.push('$');
            Regex::new(&text).map_err(|_| format!("`{pattern}` is no file name pattern"))
        };
        patterns.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    fn matches(&self, path: &str) -> bool {
        self.0.iter().any(|pattern| pattern.is_match(path) || path.split('/').any(|name| pattern.is_match(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_written_as_go_writes_them() {
        for (text, want) in [
            ("5s", Some(Duration::from_secs(5))),
            ("100ms", Some(Duration::from_millis(100))),
            ("1.5m", Some(Duration::from_secs(90))),
            ("0", Some(UNLIMITED)),
            ("0s", Some(UNLIMITED)),
            ("99999h", Some(UNLIMITED)),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("5 parsecs", None),
            ("", None),
        ] {
            assert_eq!(parse_timeout(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn ignored_names_are_patterns_over_any_part_of_a_path() {
        let ignore = Ignore::new(&[".*".into(), "*_test.rego".into(), "build/".into()]).unwrap();
        for (path, want) in [
            ("a.rego", false),
            (".git/a.rego", true),
            ("a/b_test.rego", true),
            ("x/build/y.rego", true),
            ("rebuild/y", false),
        ] {
            assert_eq!(ignore.matches(path), want, "{path}");
        }
        assert!(Ignore::new(&["[".into()]).is_err());
    }
}
