//! A look at a module's tokens before the parser sees it: what would cost the parser (or whoever drops its tree) stack
//! or time is refused here. It understands brackets, operators and numbers, and nothing else of Rego.
//!
//! The engine's parser bounds bracket nesting by itself (32 levels), but builds a chain of operators or of field
//! accesses as one nested node per link, without a bound, and computes every number literal exactly. It also reads the
//! first item of each `[…]` and `{…}` twice (is it a comprehension?), and so the innermost of n such brackets 2ⁿ times.

use std::num::{NonZeroU32, NonZeroUsize};

use regorus::{
    PolicyLengthConfig,
    unstable::{Lexer, Source, Token, TokenKind},
};

use super::{LoadError, Location, document};

/// Most operators in one expression, and most links in one reference.
const MAX_CHAIN: usize = 128;
/// How much the parser may read again, in brackets: a module's takes it seconds, a query's a tenth of one.
const MAX_WORK: Work = Work { module: 100_000, query: 1_000 };
/// A token costs this fraction of what an opening bracket costs, which is a copy of the parser's state.
const TOKENS_PER_BRACKET: u64 = 64;
/// Most levels of brackets; the parser's own limit is lower and has the better message.
const MAX_BRACKETS: usize = 256;

/// Sizes of a module. The engine's defaults refuse lines over 1,024 columns, which inline keys need.
pub(super) const LENGTHS: PolicyLengthConfig = PolicyLengthConfig {
    max_col: match NonZeroU32::new(1 << 16) {
        Some(n) => n,
        None => NonZeroU32::MIN,
    },
    max_file_bytes: match NonZeroUsize::new(4 << 20) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    },
    max_lines: match NonZeroUsize::new(200_000) {
        Some(n) => n,
        None => NonZeroUsize::MIN,
    },
};

/// What text is: a client can send a query, and pays with our time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Module,
    Query,
}

struct Work {
    module: u64,
    query: u64,
}

/// What one level of brackets has seen of its current expression.
#[derive(Clone, Copy)]
struct Run {
    operators: usize,
    links: usize,
    /// How often the parser reads what stands here, beside a first item.
    reads: u64,
    /// Is this still the first item after the bracket, or of a statement?
    first: bool,
}

/// Refuses a module or query that would hurt the parser. `display` names it in messages. Lexical errors pass: the parser
/// reports them better.
pub(super) fn check(display: &str, text: &str, kind: Kind) -> Result<(), LoadError> {
    let max = LENGTHS.max_file_bytes.get();
    if text.len() > max {
        return Err(LoadError::in_file("rego_parse_error", display, format!("module is larger than {max} bytes")));
    }
    // The lexer takes it for the end: every rule behind it would be dropped without a word.
    if let Some(at) = text.find('\0') {
        let before = text.get(..at).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        let place = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        let (row, col) = (place(before.matches('\n').count()), place(line.chars().count()));
        let location = Location { file: display.to_owned(), row, col };
        return Err(LoadError::new("rego_parse_error", "illegal null character".to_owned(), Some(location)));
    }
    numbers(display, text)?;
    let Ok(source) = Source::from_contents_with_limits(
        display.to_owned(),
        text.to_owned(),
        LENGTHS.max_file_bytes,
        LENGTHS.max_lines,
    ) else {
        return Ok(());
    };
    let mut lexer = Lexer::new(&source);
    lexer.set_max_col(LENGTHS.max_col);
    let mut levels = vec![Run::within(1)];
    let mut previous_line = 0;
    let mut continues = false;
    let mut work = 0_u64;
    let max_work = if kind == Kind::Query { MAX_WORK.query } else { MAX_WORK.module };
    while let Ok(Token(kind, span)) = lexer.next_token() {
        let fail = |message: String| {
            let location = Location { file: display.to_owned(), row: span.line, col: span.col };
            LoadError::new("rego_limit_error", message, Some(location))
        };
        if kind == TokenKind::Eof {
            break;
        }
        let symbol = if matches!(kind, TokenKind::Symbol | TokenKind::Ident) { span.text() } else { "" };
        let operator = is_operator(symbol);
        let depth = levels.len();
        let Some(run) = levels.last_mut() else { break };
        if span.line != previous_line && !operator && !continues {
            *run = Run::within(run.reads);
        }
        let reads = if run.first { run.reads.saturating_mul(2) } else { run.reads };
        work = work.saturating_add(match symbol {
            "[" | "{" => reads.saturating_mul(TOKENS_PER_BRACKET),
            _ => reads,
        });
        if work / TOKENS_PER_BRACKET > max_work {
            return Err(fail(
                "brackets within brackets would take too long to parse; flatten them, or load such a value as data"
                    .to_owned(),
            ));
        }
        match symbol {
            "," => *run = Run { first: false, ..Run::within(run.reads) },
            ";" => *run = Run::within(run.reads),
            "." => run.links += 1,
            "[" | "(" | "{" => {
                run.links += usize::from(symbol != "{");
                if depth >= MAX_BRACKETS {
                    return Err(fail(format!("brackets are nested more than {MAX_BRACKETS} levels deep")));
                }
                levels.push(Run { first: symbol != "(", ..Run::within(reads) });
            }
            "]" | ")" | "}" if depth > 1 => {
                levels.pop();
            }
            _ if operator => {
                run.operators += 1;
                run.links = 0;
                // What follows `|` may be the first statement of a comprehension.
                run.first = matches!(symbol, "|" | "not") || (run.first && symbol == "in");
            }
            _ => {}
        }
        if let Some(run) = levels.last() {
            if run.operators > MAX_CHAIN {
                return Err(fail(format!("expression has more than {MAX_CHAIN} operators; split it")));
            }
            if run.links > MAX_CHAIN {
                return Err(fail(format!("reference has more than {MAX_CHAIN} links; split it")));
            }
        }
        previous_line = span.line;
        continues = operator || symbol == ",";
    }
    Ok(())
}

// === impl Run ===

impl Run {
    /// The start of an expression in brackets that are read so often.
    const fn within(reads: u64) -> Self {
        Self { operators: 0, links: 0, reads, first: true }
    }
}

/// Refuses numbers of too many digits, before the engine's lexer computes them. Strings, comments and names are skipped;
/// where this and the lexer see a string end differently, the lexer stops with an error, so no number slips through.
fn numbers(display: &str, text: &str) -> Result<(), LoadError> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        let run = |of: fn(&u8) -> bool| rest.iter().take_while(|b| of(b)).count();
        at += 1 + match byte {
            b'"' => document::string_end(bytes, at + 1).0 - at,
            b'`' => run(|b| *b != b'`') + 1,
            b'#' => run(|b| *b != b'\n'),
            b'0'..=b'9' => {
                let length = document::number_len(bytes.get(at..).unwrap_or_default());
                let literal = text.get(at..at + length).unwrap_or_default();
                document::check_number(literal).map_err(|message| {
                    let document::DocumentError { message, row, col } = document::place(text, at, message);
                    let location = Location { file: display.to_owned(), row, col };
                    LoadError::new("rego_limit_error", message, Some(location))
                })?;
                length - 1
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => run(|b| b.is_ascii_alphanumeric() || *b == b'_'),
            _ => 0,
        };
    }
    Ok(())
}

fn is_operator(symbol: &str) -> bool {
    matches!(
        symbol,
        "+" | "-" | "*" | "/" | "%" | "|" | "&" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "=" | ":=" | "in" | "not"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Option<String> {
        check("x.rego", text, Kind::Module).err().map(|e| e.to_string())
    }

    #[test]
    fn what_the_parser_would_read_very_often_is_refused() {
        let nest = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
        let shapes = [
            ("[", "]"),
            ("{", "}"),
            ("{\"a\": ", "}"),
            ("{", ": 1}"),
            ("count([", "])"),
            ("[1 | ", "]"),
            ("[1 | 1; ", "]"),
            ("[1 | not ", "]"),
            ("[1 |\n", "]"),
            ("[[1], 0 | ", "]"),
        ];
        for (open, close) in shapes {
            for (kind, bearable, too_much) in [(Kind::Query, 7, 12), (Kind::Module, 12, 20)] {
                let text = |n| format!("x = {}", nest(open, close, n));
                let code = |n| check("x.rego", &text(n), kind).err().map(|e| e.code);
                assert_eq!(code(bearable), None, "{kind:?} {bearable} x {open}");
                assert_eq!(code(too_much), Some("rego_limit_error"), "{kind:?} {too_much} x {open}");
            }
        }
        // Read once each, however deep and many.
        for (open, close) in
            [("[0, ", "]"), ("{\"z\": 0, \"a\": ", "}"), ("(", ")"), ("abs(", ")"), ("[x | x := ", "]")]
        {
            assert_eq!(message(&format!("x = {}", nest(open, close, 60))), None, "{open}");
        }
        let wide = |element: &str, n: usize| format!("x = [0{}]", format!(",\n{element}").repeat(n));
        assert_eq!(message(&wide("{\"id\": 1, \"tags\": [1, 2], \"of\": {\"a\": 1}}", 5_000)), None);
        assert_eq!(message(&format!("x = {}", nest("[", "]", 4).replace('1', &"1, ".repeat(100_000)))), None);
        assert!(message(&format!("x = {}", nest("[", "]", 9).replace('1', &"1, ".repeat(100_000)))).is_some());
    }

    #[test]
    fn long_chains_and_deep_brackets_are_refused_with_a_place() {
        let cases = [
            (format!("package x\np := {}", vec!["1"; 200].join("+")), "operators"),
            (format!("package x\np := {}", vec!["1"; 200].join(" |\n")), "operators"),
            (format!("package x\np := {}", vec!["1"; 200].join("\n| ")), "operators"),
            (format!("package x\np := input{}", ".a".repeat(200)), "links"),
            (format!("package x\np := input{}", "[0]".repeat(200)), "links"),
            (format!("package x\np := {}", "[".repeat(10_000)), "brackets"),
            ("package x\np := 1e999999999".to_owned(), "digits"),
        ];
        for (text, want) in cases {
            let got = message(&text).unwrap_or_default();
            assert!(got.starts_with("x.rego:") && got.contains(want), "{want}: {got}");
        }
    }

    #[test]
    fn digits_in_strings_comments_and_names_are_no_numbers() {
        for text in ["p := \"12e45678\"", "p := `1e99999`", "p := 1 # 1e99999", "a1e99999 := 1", "p := \"\\\"1e99999\""]
        {
            assert_eq!(message(&format!("package x\n{text}")), None, "{text}");
        }
    }

    #[test]
    fn many_short_expressions_are_not_one_long_one() {
        let lines = "p if { input.a.b + 1 == 2; input.c in input.d }\n".repeat(1_000);
        let array = format!("xs := [{}]\n", vec!["a.b.c + 1"; 1_000].join(", "));
        let body = format!("q if {{\n{}}}\n", "  x.y == 1\n".repeat(1_000));
        assert_eq!(message(&format!("package x\n{lines}{array}{body}")), None);
    }
}
