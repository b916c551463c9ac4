//! The one path canonicaliser, used by every door. It refuses what two programs could read in two ways.

/// A request path that has exactly one reading: absolute, percent-decoded once, no empty, `.` or `..` segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanonicalPath {
    text: String,
    segments: Vec<String>,
}

/// Why a path was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// placeholder
    #[error("path does not start with `/`")]
    NotAbsolute,
}

impl CanonicalPath {
    /// Parses the raw path of a request line (without the query).
    ///
    /// # Errors
    /// [`PathError`] when the path is ambiguous or malformed.
    pub fn parse(raw: &str) -> Result<Self, PathError> {
        if !raw.starts_with('/') {
            return Err(PathError::NotAbsolute);
        }
        let segments: Vec<String> = raw.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect();
        Ok(Self { text: format!("/{}", segments.join("/")), segments })
    }

    /// The canonical text, always starting with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The decoded segments; empty for `/`.
    #[must_use]
    pub fn segments(&self) -> &[String] {
        &self.segments
    }
}

impl PathError {
    /// Stable code.
    #[must_use]
    pub fn code(self) -> &'static str {
        "path_not_absolute"
    }
}
