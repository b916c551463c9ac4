//! A new text of pieces, some of which stand elsewhere in the old one. It knows nothing of Rego.

use std::ops::Range;

use crate::policy::lower::rewrite::{Rewriter, Rewritten};

/// Text for the engine.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    New(String),
    /// Of the text before.
    Old(Range<usize>),
}

/// What stands in place of a range, which may be empty.
#[derive(Debug)]
pub(super) struct Edit {
    pub at: Range<usize>,
    pieces: Vec<Piece>,
}

/// The changes of one text, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Edits(Vec<Edit>);

// === impl Edits ===

impl Edits {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The changes from the `first` on.
    pub(super) fn since(&self, first: usize) -> impl Iterator<Item = &Edit> {
        self.0.iter().skip(first)
    }

    pub(super) fn replace(&mut self, at: Range<usize>, text: &str) {
        self.0.push(Edit { at, pieces: vec![Piece::New(text.to_owned())] });
    }

    pub(super) fn insert<P: IntoIterator<Item = Piece>>(&mut self, at: usize, pieces: P) {
        self.0.push(Edit { at: at..at, pieces: pieces.into_iter().collect() });
    }

    /// Puts text in as if it had been found before the change of that number.
    pub(super) fn insert_before(&mut self, number: usize, at: usize, text: String) {
        self.0.insert(number, Edit { at: at..at, pieces: vec![Piece::New(text)] });
    }

    /// `None` when there are none.
    pub(super) fn finish(mut self, text: &str) -> Option<Rewritten> {
        if self.0.is_empty() {
            return None;
        }
        // What is put in at one place stays in the order in which it was found.
        self.0.sort_by_key(|edit| edit.at.start);
        let mut rewriter = Rewriter::new(text);
        for Edit { at, pieces } in self.0 {
            rewriter.copy(at.start);
            rewriter.skip(at.end);
            for piece in pieces {
                match piece {
                    Piece::New(text) => rewriter.insert(&text),
                    Piece::Old(range) => rewriter.copy_again(range),
                }
            }
        }
        Some(rewriter.finish())
    }
}
