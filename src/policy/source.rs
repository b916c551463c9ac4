//! What policies are loaded from: files in memory, and the OPA archive that holds them. It reads no file system and
//! refuses archives that would write outside their place, unpack without end or name a file twice.

use std::{
    collections::BTreeSet,
    io::{self, Read},
};

use aws_lc_rs::digest;

use super::{LoadError, Settings};

/// One file of a source, already in memory.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Path relative to the source's root, `/`-separated, no leading `/`.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

/// How the files of a source are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// An OPA bundle: `*.rego`, `data.json|yaml|yml` by directory, `.manifest`.
    Bundle,
    /// `-d PATH`: `*.rego` and every `*.json|yaml|yml`, mounted at `prefix` (+ the directory they stand in), as `opa run PATH` does.
    Plain {
        /// Path under `data`.
        prefix: Vec<String>,
    },
}

/// A directory, file or archive that was read completely.
#[derive(Debug, Clone)]
pub struct Source {
    /// Bundle name as configured; module ids are `<name>/<path>`.
    pub name: String,
    /// What the operator wrote: a path; shown in messages as `<origin>/<file>` (or `<origin>` when a single file).
    pub origin: String,
    /// How to read it.
    pub kind: SourceKind,
    /// Its files.
    pub files: Vec<SourceFile>,
}

/// Most entries of one archive.
const MAX_ENTRIES: usize = 100_000;

// === impl Source ===

impl Source {
    /// Reads an OPA `.tar.gz`. Entries that are not regular files, and files that a bundle does not use, are skipped.
    ///
    /// # Errors
    /// A `bundle_error` when the bytes are not a gzip'd tar, an entry's name leaves the bundle or repeats, or a size
    /// limit of `settings` is passed.
    pub fn from_archive(name: &str, origin: &str, bytes: &[u8], settings: &Settings) -> Result<Self, LoadError> {
        let fail = |message: String| LoadError::in_file("bundle_error", origin, message);
        if !bytes.starts_with(&[0x1f, 0x8b]) {
            return Err(fail("archive read failed: gzip: invalid header".to_owned()));
        }
        let read_failed = |error: io::Error| fail(format!("archive read failed: {error}"));
        let limited = Limited {
            inner: flate2::read::MultiGzDecoder::new(bytes),
            left: settings.max_bundle_bytes,
            max: settings.max_bundle_bytes,
        };
        let mut archive = tar::Archive::new(limited);
        let mut files = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, entry) in archive.entries().map_err(read_failed)?.enumerate() {
            if index >= MAX_ENTRIES {
                return Err(fail(format!("archive has more than {MAX_ENTRIES} entries")));
            }
            let mut entry = entry.map_err(read_failed)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry_path(&entry.path_bytes()).map_err(fail)?;
            if !is_bundle_file(&path) {
                continue;
            }
            if !seen.insert(path.clone()) {
                return Err(fail(format!("archive holds `{path}` twice")));
            }
            let max = settings.max_file_bytes;
            let mut content = Vec::new();
            (&mut entry).take(as_u64(max) + 1).read_to_end(&mut content).map_err(read_failed)?;
            if content.len() > max {
                return Err(fail(oversized(&path, entry.size().max(as_u64(content.len())), max)));
            }
            files.push(SourceFile { path, bytes: content });
        }
        Ok(Self { name: name.to_owned(), origin: origin.to_owned(), kind: SourceKind::Bundle, files })
    }

    /// The path of a file as shown to the operator.
    #[must_use]
    pub fn display(&self, path: &str) -> String {
        let single = self.origin == path || self.origin.strip_suffix(path).is_some_and(|dir| dir.ends_with('/'));
        if single {
            self.origin.clone()
        } else if self.origin == "." {
            path.to_owned()
        } else {
            format!("{}/{path}", self.origin.trim_end_matches('/'))
        }
    }

    /// The id of a module.
    pub(super) fn module_id(&self, path: &str) -> String {
        match self.kind {
            SourceKind::Bundle => format!("{}/{path}", self.name),
            SourceKind::Plain { .. } => self.display(path),
        }
    }
}

/// SHA-256 (hex) over names, paths and contents.
pub(super) fn content_digest(sources: &[Source]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut field = |bytes: &[u8]| {
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    for source in sources {
        field(source.name.as_bytes());
        let mut files: Vec<_> = source.files.iter().collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        for file in files {
            field(file.path.as_bytes());
            field(&file.bytes);
        }
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// OPA's sentence for a file over the limit.
pub(super) fn oversized(path: &str, size: u64, max: usize) -> String {
    format!("bundle file '{path}' size ({size} bytes) exceeded max size ({max} bytes)")
}

/// Is this a file that a bundle is made of? Anything else is ignored, as OPA does.
pub(super) fn is_bundle_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path == ".manifest" || path == "patch.json" || name.ends_with(".rego") || is_data_name(name)
}

/// `data.json`, `data.yaml`, `data.yml`.
pub(super) fn is_data_name(name: &str) -> bool {
    matches!(name, "data.json" | "data.yaml" | "data.yml")
}

/// The path of an archive entry: leading `/` and `./` go, anything that climbs or hides is refused.
fn entry_path(raw: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(raw).map_err(|_| "archive entry name is not UTF-8".to_owned())?;
    if text.chars().any(char::is_control) {
        return Err(format!("archive entry name {text:?} holds a control character"));
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("archive entry `{text}` leaves the bundle by `..`")),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(format!("archive entry `{text}` names no file"));
    }
    Ok(parts.join("/"))
}

fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Ends a decompression that goes past its limit with an error, not with a silent end of file.
struct Limited<R> {
    inner: R,
    left: usize,
    max: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(n)
            .ok_or_else(|| io::Error::other(format!("bundle is larger than {} bytes when unpacked", self.max)))?;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn settings() -> Settings {
        Settings { max_file_bytes: 1 << 16, max_bundle_bytes: 1 << 20, ..Settings::default() }
    }

    fn tar_gz(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        gzip(&builder.into_inner().unwrap())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Writes the name bytes unchecked; the tar crate's own API refuses what an attacker would write.
    fn add(builder: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, content: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn read(bytes: &[u8]) -> Result<Vec<String>, String> {
        Source::from_archive("b", "b.tar.gz", bytes, &settings())
            .map(|s| s.files.into_iter().map(|f| f.path).collect())
            .map_err(|e| e.message)
    }

    #[test]
    fn leading_slashes_and_dots_are_stripped_and_other_files_ignored() {
        let bytes = tar_gz(|b| {
            add(b, "/data.json", tar::EntryType::Regular, b"{}");
            add(b, "./a/x.rego", tar::EntryType::Regular, b"package a");
            add(b, "/.manifest", tar::EntryType::Regular, b"{}");
            add(b, "README.md", tar::EntryType::Regular, b"hello");
            add(b, "a/link.rego", tar::EntryType::Symlink, b"");
            add(b, "a/dev.rego", tar::EntryType::Char, b"");
        });
        assert_eq!(read(&bytes), Ok(vec!["data.json".into(), "a/x.rego".into(), ".manifest".into()]));
    }

    #[test]
    fn hostile_archives_are_refused_with_a_reason() {
        let climbing = tar_gz(|b| add(b, "../../etc/x.rego", tar::EntryType::Regular, b"x"));
        let twice = tar_gz(|b| {
            add(b, "a.rego", tar::EntryType::Regular, b"x");
            add(b, "/a.rego", tar::EntryType::Regular, b"y");
        });
        let big_file = tar_gz(|b| add(b, "a.rego", tar::EntryType::Regular, &vec![0; (1 << 16) + 1]));
        let bomb = gzip(&vec![0; 8 << 20]);
        let padded_bomb = tar_gz(|b| add(b, "ignored.bin", tar::EntryType::Regular, &vec![0; 4 << 20]));
        let whole = tar_gz(|b| add(b, "a.rego", tar::EntryType::Regular, &[b'x'; 5000]));
        let cases: [(&str, &[u8], &str); 8] = [
            ("not gzip", b"PK\x03\x04", "archive read failed: gzip: invalid header"),
            ("empty", b"", "archive read failed: gzip: invalid header"),
            ("gzip of no tar", &gzip(b"hello"), "archive read failed"),
            ("truncated", &whole[..whole.len() - 20], "archive read failed"),
            ("climbing", &climbing, "leaves the bundle"),
            ("twice", &twice, "twice"),
            ("big file", &big_file, "exceeded max size (65536 bytes)"),
            ("padded bomb", &padded_bomb, "larger than"),
        ];
        for (note, bytes, want) in cases {
            let got = read(bytes).unwrap_err();
            assert!(got.contains(want), "{note}: {got}");
        }
        // Zero blocks end a tar; what follows is never unpacked.
        assert_eq!(read(&bomb), Ok(vec![]));
    }
}
