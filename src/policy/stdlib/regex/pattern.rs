//! Patterns of RE2, as Go reads them, written for the `regex` crate. What Go refuses is refused in its words, though the
//! crate would take it (`(?x)`, `a**`, `\u0041`); what both take with other meanings is written so that Go's holds.

use super::class;

/// Most times that nested counted repetitions make together.
const MAX_REPEAT: usize = 1000;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault<'p>(pub &'static str, pub &'p str);

/// `(?imsU)`
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    fold: bool,
    lines: bool,
    dot_all: bool,
    lazy: bool,
}

/// What a repetition would apply to.
#[derive(Debug, Clone, Copy)]
struct Atom {
    /// Where it starts in what was written.
    start: usize,
    repeated: bool,
    /// How often counted repetitions repeat its innermost part.
    times: usize,
}

/// A group that is open: what holds again after it.
#[derive(Debug)]
struct Group {
    start: usize,
    flags: Flags,
    folded: bool,
    times: usize,
}

struct Scanner<'p> {
    whole: &'p str,
    rest: &'p str,
    out: String,
    flags: Flags,
    /// Is what is written now read without regard to case?
    folded: bool,
    atom: Option<Atom>,
    /// The most of [`Atom::times`] in the group so far.
    times: usize,
    groups: Vec<Group>,
}

/// The pattern for the crate, or Go's sentence.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut scanner = Scanner {
        whole: pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        flags: Flags::default(),
        folded: false,
        atom: None,
        times: 1,
        groups: Vec::new(),
    };
    match scanner.scan() {
        Ok(()) => Ok(scanner.out),
        Err(Fault(what, place)) => Err(format!("error parsing regexp: {what}: `{place}`")),
    }
}

/// The start of `text` before `rest`, which is its end.
pub(super) fn until<'p>(text: &'p str, rest: &str) -> &'p str {
    text.get(..text.len().saturating_sub(rest.len())).unwrap_or(text)
}

// === impl Scanner ===

impl<'p> Scanner<'p> {
    fn scan(&mut self) -> Result<(), Fault<'p>> {
        let mut before = None;
        while let Some(c) = self.rest.chars().next() {
            let from = self.rest;
            let last = before.take();
            if c == '\\' {
                self.escape()?;
                continue;
            }
            if c == '[' {
                self.begin();
                self.rest = class::bracketed(from, &mut self.out)?;
                continue;
            }
            self.rest = from.get(c.len_utf8()..).unwrap_or_default();
            match c {
                '(' => self.open(from)?,
                ')' => self.close()?,
                '|' => {
                    self.out.push('|');
                    self.atom = None;
                }
                '^' => self.write(if self.flags.lines { "(?m:^)" } else { r"\A" }),
                '$' => self.write(if self.flags.lines { "(?m:$)" } else { r"\z" }),
                '.' => self.write(if self.flags.dot_all { "(?s:.)" } else { r"[^\n]" }),
                '*' | '+' | '?' => {
                    self.repeat(from, 1, None, last)?;
                    before = Some(from);
                }
                '{' => match counts(from) {
                    Some((least, most, rest)) => {
                        let most_or_least = most.unwrap_or(least);
                        self.rest = rest;
                        if least > MAX_REPEAT || most_or_least > MAX_REPEAT || most_or_least < least {
                            return Err(Fault("invalid repeat count", until(from, rest)));
                        }
                        self.repeat(from, from.len() - rest.len(), Some((least, most)), last)?;
                        before = Some(from);
                    }
                    None => self.literal('{'),
                },
                c => self.literal(c),
            }
        }
        if self.groups.is_empty() { Ok(()) } else { Err(Fault("missing closing )", self.whole)) }
    }

    /// Starts what a repetition may apply to.
    fn begin(&mut self) {
        if self.folded != self.flags.fold {
            self.out.push_str(if self.flags.fold { "(?i)" } else { "(?-i)" });
            self.folded = self.flags.fold;
        }
        self.atom = Some(Atom { start: self.out.len(), repeated: false, times: 1 });
    }

    fn write(&mut self, text: &str) {
        self.begin();
        self.out.push_str(text);
    }

    fn literal(&mut self, c: char) {
        self.begin();
        class::literal(&mut self.out, c);
    }

    fn escape(&mut self) -> Result<(), Fault<'p>> {
        let from = self.rest;
        let after = from.get(2..).unwrap_or_default();
        let written = match from.as_bytes().get(1) {
            Some(b'A') => r"\A",
            Some(b'b') => r"(?-u:\b)",
            Some(b'B') => r"(?-u:\B)",
            Some(b'z') => r"\z",
            Some(b'C') => return Err(Fault("invalid escape sequence", until(from, after))),
            Some(b'Q') => {
                let (quoted, rest) = after.split_once(r"\E").unwrap_or((after, ""));
                quoted.chars().for_each(|c| self.literal(c));
                self.rest = rest;
                return Ok(());
            }
            _ => "",
        };
        if !written.is_empty() {
            self.write(written);
            self.rest = after;
            return Ok(());
        }
        self.begin();
        if let Some(rest) = class::property(from, &mut self.out)? {
            self.rest = rest;
        } else if let Some((class, rest)) = class::perl(from) {
            self.out.push_str(&class);
            self.rest = rest;
        } else {
            let (code, rest) = class::escape(from)?;
            match char::from_u32(code) {
                Some(c) => class::literal(&mut self.out, c),
                None => self.out.push_str(class::NOTHING),
            }
            self.rest = rest;
        }
        Ok(())
    }

    /// The group, or the flags, that `from` starts with.
    fn open(&mut self, from: &'p str) -> Result<(), Fault<'p>> {
        let Some(inner) = from.strip_prefix("(?") else {
            self.group("(", self.flags);
            return Ok(());
        };
        let name = inner.strip_prefix("P<").filter(|name| !name.is_empty());
        if let Some(named) = name.or_else(|| inner.strip_prefix('<').filter(|name| !name.is_empty())) {
            let (name, rest) = named.split_once('>').ok_or(Fault("invalid named capture", from))?;
            if name.is_empty() || name.contains(|c: char| c != '_' && !c.is_ascii_alphanumeric()) {
                return Err(Fault("invalid named capture", until(from, rest)));
            }
            self.rest = rest;
            // The crate has no names that start with a digit, nor the same one twice.
            let opened = format!("(?P<{name}>");
            let plain = name.starts_with(|c: char| c.is_ascii_digit()) || self.out.contains(&opened);
            self.group(if plain { "(" } else { &opened }, self.flags);
            return Ok(());
        }
        let (mut flags, mut on, mut seen) = (self.flags, true, false);
        let mut chars = inner.chars();
        while let Some(c) = chars.next() {
            match c {
                'i' => flags.fold = on,
                'm' => flags.lines = on,
                's' => flags.dot_all = on,
                'U' => flags.lazy = on,
                '-' if on => {
                    (on, seen) = (false, false);
                    continue;
                }
                ':' | ')' if on || seen => {
                    self.rest = chars.as_str();
                    if c == ':' {
                        self.group("(?:", flags);
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            seen = true;
        }
        Err(Fault("invalid or unsupported Perl syntax", until(from, chars.as_str())))
    }

    fn group(&mut self, text: &str, inside: Flags) {
        self.begin();
        let start = self.out.len();
        self.out.push_str(text);
        self.groups.push(Group { start, flags: self.flags, folded: self.folded, times: self.times });
        self.flags = inside;
        self.times = 1;
        self.atom = None;
    }

    fn close(&mut self) -> Result<(), Fault<'p>> {
        let Some(Group { start, flags, folded, times }) = self.groups.pop() else {
            return Err(Fault("unexpected )", self.whole));
        };
        self.out.push(')');
        self.atom = Some(Atom { start, repeated: false, times: self.times });
        self.times = self.times.max(times);
        (self.flags, self.folded) = (flags, folded);
        Ok(())
    }

    /// Writes the first `length` bytes of `from`, a repetition. `last` is where the one right before it starts.
    fn repeat(
        &mut self,
        from: &'p str,
        length: usize,
        counts: Option<(usize, Option<usize>)>,
        last: Option<&'p str>,
    ) -> Result<(), Fault<'p>> {
        let lazy = self.rest.strip_prefix('?');
        self.rest = lazy.unwrap_or(self.rest);
        if let Some(last) = last {
            return Err(Fault("invalid nested repetition operator", until(last, self.rest)));
        }
        let Some(atom) = &mut self.atom else {
            return Err(Fault("missing argument to repetition operator", until(from, self.rest)));
        };
        if let Some((least, most)) = counts {
            atom.times = match most.unwrap_or(least) {
                0 if most.is_some() => 1,
                0 => atom.times,
                times => atom.times.saturating_mul(times),
            };
            if (least >= 2 || most.is_some_and(|most| most >= 2)) && atom.times > MAX_REPEAT {
                return Err(Fault("invalid repeat count", until(from, self.rest)));
            }
            self.times = self.times.max(atom.times);
        }
        // Flags, or nothing quoted, may stand between two repetitions.
        if atom.repeated {
            self.out.insert_str(atom.start, "(?:");
            self.out.push(')');
        }
        atom.repeated = true;
        if counts.is_some_and(|(_, most)| most == Some(0)) {
            // The crate would forget the groups in it.
            self.out.insert_str(atom.start, "(?:");
            self.out.push_str(class::NOTHING);
            self.out.push_str("|)");
            return Ok(());
        }
        self.out.push_str(from.get(..length).unwrap_or_default());
        if lazy.is_some() != self.flags.lazy {
            self.out.push('?');
        }
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}`: the numbers, and what follows. Anything else is text.
fn counts(text: &str) -> Option<(usize, Option<usize>, &str)> {
    let (least, rest) = integer(text.strip_prefix('{')?)?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, Some(least), rest));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(rest) = rest.strip_prefix('}') {
        return Some((least, None, rest));
    }
    let (most, rest) = integer(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

fn integer(text: &str) -> Option<(usize, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 1 && digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().unwrap_or(usize::MAX), rest))
}
