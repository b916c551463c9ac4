//! Text → the parser's tree, within the limits of [`scan`] and without a panic, and the parser's complaints in OPA's words
//! where they say the same. It checks nothing else.

use regorus::{
    Source,
    unstable::{Module, Parser, Query, Ref},
};

use crate::policy::{LoadError, Location, bundle::RegoFile, error::Rendered, panics, scan};

/// Parses an ad-hoc query.
pub(in crate::policy) fn query_tree(text: &str) -> Result<Ref<Query>, LoadError> {
    scan::check("query", text, scan::Kind::Query)?;
    #[expect(clippy::redundant_closure, reason = "the method alone is not general over the parser's lifetime")]
    let tree = parse("query", text, false, |parser| Parser::parse_user_query(parser));
    tree
}

pub(in crate::policy) fn module(file: &RegoFile) -> Result<Ref<Module>, LoadError> {
    scan::check(&file.display, &file.text, scan::Kind::Module)?;
    unlimited(file)
}

/// Parses a module that was made of one within the limits.
pub(super) fn unlimited(file: &RegoFile) -> Result<Ref<Module>, LoadError> {
    parse(&file.display, &file.text, file.v0, |parser| parser.parse().map(Ref::new))
}

fn parse<T>(
    display: &str,
    text: &str,
    v0: bool,
    run: impl FnOnce(&mut Parser<'_>) -> anyhow::Result<T>,
) -> Result<T, LoadError> {
    let lengths = scan::LENGTHS;
    let parsed = panics::catch(|| {
        let (name, text) = (display.to_owned(), text.to_owned());
        let source = Source::from_contents_with_limits(name, text, lengths.max_file_bytes, lengths.max_lines)?;
        let mut parser = Parser::new(&source)?;
        parser.set_max_col(lengths.max_col);
        if !v0 {
            parser.enable_rego_v1()?;
        }
        run(&mut parser)
    });
    match parsed {
        Ok(Ok(tree)) => Ok(tree),
        Ok(Err(error)) => {
            let rendered = format!("{error:#}");
            let Rendered { message, location } = Rendered::parse(&rendered);
            let at = location.unwrap_or_else(|| Location { file: display.to_owned(), row: 0, col: 0 });
            let (code, message, at) = in_opas_words(message, at, &rendered, text);
            Err(LoadError::new(code, message, Some(at)))
        }
        Err(panic) => Err(LoadError::in_file("rego_parse_error", display, format!("the parser panicked: {panic}"))),
    }
}

/// The parser's complaint as OPA has it, where the two say the same.
fn in_opas_words(message: String, mut at: Location, rendered: &str, text: &str) -> (&'static str, String, Location) {
    let line_of = |row: u32| usize::try_from(row).ok().and_then(|row| text.lines().nth(row.checked_sub(1)?));
    let line = line_of(at.row);
    let here = usize::try_from(at.col).ok().zip(line).and_then(|(col, line)| line.get(col.checked_sub(1)?..));
    let here = here.filter(|here| !here.is_empty());
    let indent = line.map_or(0, |line| line.chars().take_while(|c| *c == ' ').count());
    let indent = u32::try_from(indent).unwrap_or_default();
    let code = "rego_parse_error";
    let new = match message.as_str() {
        // The end that a query has is no text that the parser could name.
        "expecting" => "malformed query".to_owned(),
        "import path must begin with one of: {data, future, input, rego}" => {
            let path = line.and_then(|line| line.trim_start().strip_prefix("import")).unwrap_or_default();
            let root = path.trim().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            format!(
                "unexpected import path, must begin with one of: {{data, future, input, rego}}, got: {root} (hint: if this is unexpected, try updating OPA)"
            )
        }
        "import shadows following import defined earlier:" => {
            let earlier = rendered
                .rsplit_once("--> ")
                .and_then(|(_, place)| place.lines().next()?.rsplit(':').nth(1)?.parse().ok());
            let earlier = earlier.and_then(line_of).unwrap_or_default();
            let words: Vec<&str> = earlier.split('#').next().unwrap_or_default().split_whitespace().collect();
            return ("rego_compile_error", format!("import must not shadow {}", words.join(" ")), at);
        }
        "input cannot be shadowed" | "data cannot be shadowed" => {
            let name = message.split(' ').next().unwrap_or_default();
            let col = usize::try_from(at.col).unwrap_or_default();
            let before = line.and_then(|line| line.get(..col.saturating_sub(1))).and_then(|before| before.rfind(name));
            if let Some(start) = before {
                at.col = u32::try_from(start + 1).unwrap_or(at.col);
                let message = format!("variables must not shadow {name} (use a different variable name)");
                return ("rego_compile_error", message, at);
            }
            return ("rego_compile_error", format!("rules must not shadow {name} (use a different rule name)"), at);
        }
        "expecting identifier" | "repeating parameter name" | "expecting `:=` while parsing default rule"
            if line.is_some_and(|line| line.trim_start().starts_with("default ")) && here.is_some() =>
        {
            let here = here.unwrap_or_default();
            let wrong = if message.starts_with("repeating") {
                let end = here.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(here.len());
                format!("arguments cannot be repeated {}", here.get(..end).unwrap_or_default())
            } else if message.starts_with("expecting identifier") {
                format!("arguments cannot contain {}", constant(here))
            } else {
                "must have a value".to_owned()
            };
            at.col = indent + 1;
            format!("illegal default rule ({wrong})")
        }
        "expecting `:=` while parsing default rule" => {
            "a default rule without a value is not supported; write `:= true` behind it".to_owned()
        }
        "else cannot be used with set rules" => "else keyword cannot be used on multi-value rules".to_owned(),
        "rule must have a body or assignment" => "var cannot be used for rule name".to_owned(),
        "`if` keyword is required before rule body" => {
            // OPA points at the rule.
            at.col = indent + 1;
            message
        }
        "expecting expression"
            if line.is_none_or(|line| line.len() < usize::try_from(at.col).unwrap_or(usize::MAX)) =>
        {
            at.col = at.col.saturating_sub(1);
            "unexpected eof token".to_owned()
        }
        "expecting expression" => match here.and_then(token) {
            Some(token) => format!("unexpected {token} token"),
            None => message,
        },
        keyword if keyword.starts_with("unexpected keyword `") => {
            let keyword = keyword.split('`').nth(1).unwrap_or_default();
            format!("unexpected {keyword} keyword")
        }
        _ => message,
    };
    (code, new, at)
}

/// What OPA calls the constant that a text starts with.
fn constant(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'"' | b'`') => "string",
        Some(b'[') => "array",
        Some(b'{') => "object",
        Some(b't' | b'f') => "boolean",
        Some(b'n') => "null",
        _ => "number",
    }
}

/// OPA's name of the token that a text starts with.
fn token(text: &str) -> Option<&'static str> {
    const TOKENS: [(&str, &str); 20] = [
        (":=", "assign"),
        ("==", "equal"),
        ("!=", "neq"),
        (">=", "gte"),
        ("<=", "lte"),
        (">", "gt"),
        ("<", "lt"),
        ("=", "eq"),
        ("+", "plus"),
        ("-", "minus"),
        ("*", "mul"),
        ("/", "div"),
        ("%", "rem"),
        ("&", "and"),
        ("|", "or"),
        (")", ")"),
        ("]", "]"),
        ("}", "}"),
        (",", ","),
        (":", ":"),
    ];
    TOKENS.iter().find(|(own, _)| text.starts_with(own)).map(|(_, name)| *name)
}
