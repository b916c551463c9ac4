//! A text and what became of it: pieces that were copied and pieces that were put in, so that every place in the new
//! text leads back to the old one. It understands nothing of Rego beyond where a string starts.

use std::ops;

use crate::policy::{Location, coverage::Range};

/// Text that stands in both.
#[derive(Debug, Clone, Copy)]
struct Segment {
    /// Offset in the new text.
    new: usize,
    /// Offset in the old text.
    old: usize,
    length: usize,
}

/// Writes a new text from left to right.
#[derive(Debug)]
pub(super) struct Rewriter<'t> {
    old: &'t str,
    done: usize,
    new: String,
    segments: Vec<Segment>,
}

/// A finished rewriting.
#[derive(Debug, Clone)]
pub(super) struct Rewritten {
    old: Lines,
    new: Lines,
    segments: Vec<Segment>,
}

/// A text with the offsets at which its lines start.
#[derive(Debug, Clone)]
struct Lines {
    text: String,
    starts: Vec<usize>,
}

// === impl Rewriter ===

impl<'t> Rewriter<'t> {
    pub(super) fn new(old: &'t str) -> Self {
        Self { old, done: 0, new: String::with_capacity(old.len()), segments: Vec::new() }
    }

    /// Up to where the old text was dealt with.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Copies up to `end`.
    pub(super) fn copy(&mut self, end: usize) {
        if let Some(piece) = self.old.get(self.done..end).filter(|piece| !piece.is_empty()) {
            self.segments.push(Segment { new: self.new.len(), old: self.done, length: piece.len() });
            self.new.push_str(piece);
            self.done = end;
        }
    }

    /// Goes on at another place of the old text, which may lie before this one.
    pub(super) fn go_to(&mut self, place: usize) {
        self.done = place;
    }

    /// Puts in a piece of the old text, wherever that was dealt with.
    pub(super) fn copy_again(&mut self, range: ops::Range<usize>) {
        if let Some(piece) = self.old.get(range.clone()).filter(|piece| !piece.is_empty()) {
            self.segments.push(Segment { new: self.new.len(), old: range.start, length: piece.len() });
            self.new.push_str(piece);
        }
    }

    /// Leaves out up to `end`.
    pub(super) fn skip(&mut self, end: usize) {
        self.done = self.done.max(end);
    }

    /// Leaves out up to `end`, and keeps its lines.
    pub(super) fn blank(&mut self, end: usize) {
        let piece = self.old.get(self.done..end).unwrap_or_default();
        self.new.extend(piece.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { char::from(byte) } else { ' ' }));
        self.skip(end);
    }

    pub(super) fn insert(&mut self, text: &str) {
        self.new.push_str(text);
    }

    pub(super) fn finish(mut self) -> Rewritten {
        self.copy(self.old.len());
        Rewritten { old: Lines::new(self.old), new: Lines::new(&self.new), segments: self.segments }
    }
}

// === impl Rewritten ===

impl Rewritten {
    pub(super) fn text(&self) -> &str {
        &self.new.text
    }

    /// This rewriting and the one of its new text, as one.
    pub(super) fn then(self, later: Self) -> Self {
        let mut segments = Vec::with_capacity(later.segments.len());
        for piece in &later.segments {
            let (start, end) = (piece.old, piece.old + piece.length);
            let first = self.segments.partition_point(|own| own.new + own.length <= start);
            for own in self.segments.iter().skip(first).take_while(|own| own.new < end) {
                let (from, to) = (own.new.max(start), (own.new + own.length).min(end));
                segments.push(Segment {
                    new: piece.new + (from - start),
                    old: own.old + (from - own.new),
                    length: to - from,
                });
            }
        }
        Self { old: self.old, new: later.new, segments }
    }

    /// A place in the new text, as the engine counts columns → the place in the old one, as people do.
    pub(super) fn original(&self, at: &mut Location) {
        if let Some(offset) = self.new.engine_offset(at.row, at.col) {
            (at.row, at.col) = self.old.place(self.old_offset(offset));
        }
    }

    /// As [`Rewritten::original`], with the column as the engine counts it in the old text.
    pub(super) fn original_for_engine(&self, at: &mut Location) {
        if let Some(offset) = self.new.engine_offset(at.row, at.col) {
            (at.row, at.col) = self.old.engine_place(self.old_offset(offset));
        }
    }

    /// The piece of the old text, and its place, that became the piece `text` of the new one. Columns are in characters.
    pub(super) fn original_piece(&self, row: u32, col: u32, text: &str) -> Option<(ops::Range<usize>, u32, u32)> {
        let line = *self.new.starts.get(usize::try_from(row).ok()?.checked_sub(1)?)?;
        let column = usize::try_from(col).ok()?.checked_sub(1)?;
        let start = line + self.new.text.get(line..)?.chars().take(column).map(char::len_utf8).sum::<usize>();
        let (old_start, old_end) = (self.old_offset(start), self.old_end(start + text.len()));
        let (row, col) = self.old.place(old_start);
        Some((old_start..old_end, row, col))
    }

    /// The place in the old text of a piece of the new one.
    pub(super) fn original_range(&self, start: usize, end: usize) -> Range {
        Range { start: self.old.place(self.old_offset(start)), end: self.old.place(self.old_end(end)) }
    }

    /// The offset in the old text where a piece ends that ends at `new`.
    fn old_end(&self, new: usize) -> usize {
        let next = self.segments.partition_point(|segment| segment.new < new);
        let segment = next.checked_sub(1).and_then(|index| self.segments.get(index));
        match segment {
            Some(segment) if new <= segment.new + segment.length => segment.old + (new - segment.new),
            // What was put in closes something: it reaches to what comes next.
            _ => self.segments.get(next).map_or(self.old.text.len(), |segment| segment.old),
        }
    }

    /// The offset in the old text; what was put in stands for what comes before it.
    fn old_offset(&self, new: usize) -> usize {
        let next = self.segments.partition_point(|segment| segment.new <= new);
        let segment = next.checked_sub(1).and_then(|index| self.segments.get(index));
        match segment {
            Some(segment) if new < segment.new + segment.length => segment.old + (new - segment.new),
            // What was put in opens something: it is told where that begins.
            _ => self.segments.get(next).map_or(self.old.text.len(), |segment| {
                let before = segment.old;
                next.checked_sub(1)
                    .and_then(|index| self.segments.get(index))
                    .map_or(0, |segment| segment.old + segment.length)
                    .min(before)
            }),
        }
    }
}

// === impl Lines ===

impl Lines {
    fn new(text: &str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text: text.to_owned(), starts }
    }

    /// The offset of a place whose column is the engine's: a tab is four columns wide, and a string counts by bytes.
    fn engine_offset(&self, row: u32, col: u32) -> Option<usize> {
        let start = *self.starts.get(usize::try_from(row).ok()?.checked_sub(1)?)?;
        let line = self.text.get(start..)?.split('\n').next()?;
        let found = columns(line).find(|(_, column)| u32::try_from(*column).is_ok_and(|column| column >= col));
        Some(start + found.map_or(line.len(), |(at, _)| at))
    }

    /// The place of an offset, with the column as the engine counts it.
    fn engine_place(&self, offset: usize) -> (u32, u32) {
        let (row, col) = self.place(offset);
        let line = usize::try_from(row).ok().and_then(|row| self.starts.get(row.checked_sub(1)?)).copied();
        let text = line.and_then(|start| Some((start, self.text.get(start..)?.split('\n').next()?)));
        let column = text.and_then(|(start, line)| columns(line).find(|(at, _)| start + at >= offset));
        (row, column.and_then(|(_, column)| u32::try_from(column).ok()).unwrap_or(col))
    }

    /// Row and column of an offset, in characters.
    fn place(&self, offset: usize) -> (u32, u32) {
        let row = self.starts.partition_point(|start| *start <= offset);
        let start = row.checked_sub(1).and_then(|index| self.starts.get(index)).copied().unwrap_or_default();
        let col = self.text.get(start..offset).unwrap_or_default().chars().count() + 1;
        let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        (narrow(row), narrow(col))
    }
}

/// The offset of every character of a line with its column as the engine counts it: a tab is four columns wide, and a
/// string counts by bytes.
fn columns(line: &str) -> impl Iterator<Item = (usize, usize)> {
    let (mut column, mut quoted, mut escaped) = (1_usize, false, false);
    line.char_indices().map(move |(at, c)| {
        let own = column;
        column += match c {
            '\t' => 4,
            c if quoted => c.len_utf8(),
            _ => 1,
        };
        quoted = if c == '"' && !escaped { !quoted } else { quoted };
        escaped = c == '\\' && quoted && !escaped;
        (at, own)
    })
}

/// A place of the parser's as an offset.
pub(super) fn offset(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// Row and column of an offset of a text that was not rewritten.
pub(super) fn place(text: &str, offset: usize) -> (u32, u32) {
    Lines::new(text).place(offset)
}

/// A place as the engine counts columns → the same in characters.
pub(in crate::policy) fn characters(text: &str, row: u32, col: u32) -> (u32, u32) {
    let lines = Lines::new(text);
    lines.engine_offset(row, col).map_or((row, col), |offset| lines.place(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_whatever_was_put_in_left_out_or_is_wide() {
        let old = "a := 1\n\tb := \"é\" # x\nccc := d\n";
        let mut rewriter = Rewriter::new(old);
        rewriter.copy(8);
        rewriter.insert("data.p.");
        rewriter.copy(old.find("ccc").unwrap());
        rewriter.skip(old.find(" := d").unwrap());
        rewriter.insert("z");
        let rewritten = rewriter.finish();
        assert_eq!(rewritten.text(), "a := 1\n\tdata.p.b := \"é\" # x\nz := d\n");
        // Row and column in the engine's counting; row and column in the original.
        for (engine, want) in [
            ((1, 1), (1, 1)),
            ((1, 6), (1, 6)),
            ((2, 5), (2, 2)),
            ((2, 9), (2, 2)),
            ((2, 12), (2, 2)),
            ((2, 17), (2, 7)),
            ((2, 22), (2, 11)),
            ((3, 1), (3, 1)),
            ((3, 6), (3, 8)),
            ((3, 60), (3, 9)),
        ] {
            let mut at = Location { file: String::new(), row: engine.0, col: engine.1 };
            rewritten.original(&mut at);
            assert_eq!((at.row, at.col), want, "{engine:?}");
        }
    }

    #[test]
    fn two_rewritings_are_one() {
        let mut first = Rewriter::new("abcdef");
        first.copy(2);
        first.insert("--");
        first.skip(3);
        let first = first.finish();
        assert_eq!(first.text(), "ab--def");
        let mut second = Rewriter::new("ab--def");
        second.skip(1);
        second.copy(5);
        second.insert("+");
        let both = first.clone().then(second.finish());
        assert_eq!(both.text(), "b--d+ef");
        for (col, want) in [(1, 2), (2, 3), (4, 4), (5, 5), (6, 5), (7, 6)] {
            let mut at = Location { file: String::new(), row: 1, col };
            both.original(&mut at);
            assert_eq!(at.col, want, "{col}");
        }
    }
}
