//! Modules that note what of them was evaluated. Every body is rewritten to comprehensions in one another, a level for
//! each statement, so that the engine evaluates the statements in the order in which OPA does, and each level notes that
//! its statement was reached: `x := f(1); x > 2` becomes
//! `l := [[[[x] | mark(3)] | mark(2); x > 2] | mark(1); x := f(1)]; r := l[_][_][_]; x := r[0]`. What the body gives stays
//! the same. It judges nothing: what the notes mean is in [`crate::policy::coverage`].

mod groups;
mod order;
mod ranges;

use std::{collections::BTreeSet, sync::Arc};

use regorus::unstable::{Expr, Literal, LiteralStmt, Module, Query, Ref, Rule, RuleBody, RuleHead};

use self::{
    groups::{Groups, Place, is_ground},
    order::levels,
    ranges::{Span, head_values, nested, statement_children},
};
use super::{
    Origins,
    rewrite::{Rewriter, Rewritten},
};
use crate::policy::{
    LoadError,
    bundle::RegoFile,
    check,
    coverage::{MARK, Mark, Plan, Range},
    solutions::extent,
    syntax::{self, Names},
};

/// Files with notes, and what the notes mean. `files` have passed the checks.
pub(in crate::policy) fn instrument(
    files: &[RegoFile],
    names: &Names,
    origins: &mut Origins,
) -> Result<(Vec<RegoFile>, Plan), Vec<LoadError>> {
    let mut parsed = Vec::new();
    for file in files {
        parsed.push((file, check::module(file).map_err(|error| vec![error])?));
    }
    let groups = Groups::new(&parsed.iter().map(|(_, module)| &**module).collect::<Vec<_>>());
    let mut plan = Plan { groups: groups.len(), ..Plan::default() };
    let mut instrumented = Vec::with_capacity(files.len());
    for (index, (file, module)) in parsed.iter().enumerate() {
        let origin = origins.rewritten(&file.display);
        let package = syntax::package_path(module);
        let known = plan.file(origins.name(&file.display));
        let mut writer = Writer {
            text: &file.text,
            braces: file.v0 && !imports_v1(module),
            origin: origin.as_deref(),
            is_document: &|name| {
                names.is_rule(&package, name)
                    || module
                        .imports
                        .iter()
                        .any(|import| syntax::imported_name(import).is_some_and(|import| import == name))
            },
            plan: &mut plan,
            file: known,
            group: None,
            stops: false,
            body: None,
            new: Rewriter::new(&file.text),
            queries: 0,
        };
        for (position, rule) in module.policy.iter().enumerate() {
            writer.rule(rule, groups.place(module, (index, position), rule));
        }
        let rewritten = writer.new.finish();
        origins.then(file, &rewritten);
        instrumented.push(RegoFile { text: Arc::from(rewritten.text()), ..RegoFile::clone(file) });
    }
    Ok((instrumented, plan))
}

fn imports_v1(module: &Module) -> bool {
    module.imports.iter().any(|import| syntax::dotted_name(&import.refr).as_deref() == Some("rego.v1"))
}

/// Writes one module anew.
struct Writer<'w> {
    text: &'w str,
    /// Bodies stand in braces without `if`.
    braces: bool,
    origin: Option<&'w Rewritten>,
    is_document: &'w dyn Fn(&str) -> bool,
    plan: &'w mut Plan,
    file: usize,
    group: Option<usize>,
    stops: bool,
    body: Option<usize>,
    new: Rewriter<'w>,
    queries: usize,
}

/// What a body needs to know of what is around it.
struct Around<'a> {
    /// Variables that have their values already.
    bound: &'a BTreeSet<String>,
    /// Expressions that the body's variables are used in.
    used_by: Vec<&'a Expr>,
    /// The mark of the end.
    end: Option<usize>,
    /// The mark of the start.
    start: Option<usize>,
    /// Statements that must hold for OPA to look at the body at all.
    filters: Vec<String>,
}

// === impl Writer ===

impl Writer<'_> {
    fn rule(&mut self, rule: &Rule, place: Place<'_>) {
        self.group = place.group.map(|group| group.number);
        self.stops = place.group.is_some_and(|group| group.stops);
        let begins = place.group.filter(|_| place.first).map(|group| group.number);
        match rule {
            Rule::Default { span, refr, value, .. } => {
                let start = offset(span.start);
                let end = self.end_of(value);
                let keyword = (start, start + "default".len());
                let definition = (self.start_of(refr), end);
                let mark = self.mark(&[keyword, definition]);
                self.candidates(&[keyword, definition]);
                if let (Some(group), Some(known)) = (place.group, self.plan.marks.get_mut(mark)) {
                    known.default_of = Some(group.number);
                    self.plan.defaults.insert(group.number, mark);
                }
                if place.last {
                    self.new.copy(end);
                    self.default(place, refr.span().text());
                }
            }
            Rule::Spec { span, head, bodies } => {
                let name = match head {
                    RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => {
                        refr.span().text()
                    }
                };
                self.definition(head, bodies, begins, place);
                let end = self.quoted_end(offset(span.end));
                self.new.copy(end.max(self.new.done()));
                if place.last {
                    self.default(place, name);
                }
            }
        }
    }

    /// A definition after all others of its name, which gives nothing and notes that none of them gave anything.
    fn default(&mut self, place: Place<'_>, name: &str) {
        let Some(group) = place.group else { return };
        let Some((value, args)) = &group.default else { return };
        let mark = match self.plan.defaults.get(&group.number) {
            Some(mark) => *mark,
            None => return,
        };
        let (is, body) = if self.braces { ("=", "") } else { (":=", "if ") };
        self.new.insert(&format!(" {name}{args} {is} {value} {body}{{ not {MARK}({mark}) }}"));
    }

    fn definition(&mut self, head: &RuleHead, bodies: &[RuleBody], begins: Option<usize>, place: Place<'_>) {
        let (refr, args, values) = head_values(head);
        let mut head_end = args.iter().chain(&values).map(|expr| self.end_of(expr)).max().unwrap_or_default();
        head_end = head_end.max(self.end_of(refr));
        if !args.is_empty() || matches!(head, RuleHead::Func { .. }) {
            // The closing parenthesis.
            let close = self.text.get(head_end..).and_then(|rest| rest.find(')').filter(|_| values.is_empty()));
            head_end += close.map_or(0, |close| close + 1);
        }
        if let RuleHead::Set { key: Some(_), .. } = head
            && self.text.get(head_end..).is_some_and(|rest| rest.trim_start().starts_with(']'))
        {
            head_end += self.text.get(head_end..).and_then(|rest| rest.find(']')).map_or(0, |close| close + 1);
        }
        let start = self.start_of(refr);
        let mut exprs: Vec<&Expr> = vec![refr];
        exprs.extend(values.iter().copied());
        let mut own = vec![(start, head_end)];
        self.candidates(&own.clone());
        for expr in &values {
            ranges::argument(self, expr, &mut own);
        }
        ranges::indexes(self, refr, &mut own);
        let exits = place.group.map(|group| group.number);
        let bound: BTreeSet<String> = args.iter().flat_map(|arg| ranges::variables(arg)).collect();
        self.copy_through(&exprs, head_end, &bound);
        if bodies.is_empty() {
            let generated = match (head, values.last()) {
                (_, None) => (start, self.end_of(refr)),
                (RuleHead::Set { .. }, Some(value)) if is_ground(value) && syntax::parts(value).is_empty() => {
                    (start, self.end_of(refr))
                }
                (_, Some(value)) => (self.start_of(value), self.end_of(value)),
            };
            self.candidates(&[generated]);
            let replaced = exprs.iter().any(|expr| ranges::calls(expr));
            if !replaced {
                own.push(generated);
            }
            let mark = self.mark(&own);
            self.set(mark, begins, exits);
            let body = if self.braces { "" } else { "if " };
            self.new.insert(&format!(" {body}{{ {MARK}({mark}) }}"));
            return;
        }
        let mut begins = begins;
        for (index, body) in bodies.iter().enumerate() {
            let mut exprs = exprs.clone();
            if index > 0 {
                own = vec![self.own_head(body)];
                self.candidates(&own.clone());
                if let Some(assign) = &body.assign {
                    exprs.push(&assign.value);
                    ranges::argument(self, &assign.value, &mut own);
                    let end = self.end_of(&assign.value);
                    self.copy_through(&[&assign.value], end, &bound);
                }
            }
            self.body = Some(self.plan.bodies);
            self.plan.bodies += 1;
            let end = self.mark(&own);
            self.set(end, None, exits);
            let start = begins.take().map(|group| {
                let mark = self.mark(&[]);
                self.set(mark, Some(group), None);
                mark
            });
            let filters = ranges::filters(self.text, &body.query, &args);
            let around = Around { bound: &bound, used_by: exprs, end: Some(end), start, filters };
            self.body(body, &around);
            self.body = None;
        }
    }

    /// Which definitions a mark begins and ends.
    fn set(&mut self, mark: usize, begins: Option<usize>, exits: Option<usize>) {
        if let Some(mark) = self.plan.marks.get_mut(mark) {
            mark.begins = begins;
            mark.exits = exits;
        }
    }

    /// The head of an `else`, or of a second body.
    fn own_head(&self, body: &RuleBody) -> Span {
        let start = offset(body.span.start);
        let end = match &body.assign {
            Some(assign) => self.end_of(&assign.value),
            None if body.is_else => start + "else".len(),
            None => offset(body.span.end),
        };
        (start, end)
    }

    fn body(&mut self, body: &RuleBody, around: &Around<'_>) {
        let query = &body.query;
        let (Some(first), Some(last)) = (query.stmts.first(), query.stmts.last()) else {
            if let Some(mark) = around.end {
                let end = body.assign.as_ref().map_or(offset(body.span.end), |assign| self.end_of(&assign.value));
                self.new.copy(end.max(self.new.done()));
                let word = if self.braces { "" } else { "if " };
                self.new.insert(&format!(" {word}{{ {MARK}({mark}) }}"));
            }
            return;
        };
        let (start, end) = (extent(self.text, first).0, extent(self.text, last).1);
        let bare = first.span.start == query.span.start;
        self.new.copy(start);
        if bare {
            self.new.insert("{ ");
        }
        self.query(query, around);
        if bare {
            self.new.insert(" }");
        }
        self.new.skip(end);
    }

    /// The statements of a query as levels, and the variables that others need of them.
    fn query(&mut self, query: &Query, around: &Around<'_>) {
        self.queries += 1;
        let number = self.queries;
        let (levels, bound) = levels(query, around.bound, self.is_document);
        let wanted: BTreeSet<String> = around
            .used_by
            .iter()
            .flat_map(|expr| ranges::all_variables(expr))
            .filter(|name| bound.contains(name) && !around.bound.contains(name))
            .collect();
        let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let mut depth = levels.len();
        self.new.insert(&format!("claimgate_l{number} := "));
        let opened = usize::from(around.start.is_some() || !around.filters.is_empty()) + levels.len();
        self.new.insert(&"[".repeat(opened));
        match around.end {
            Some(mark) => {
                depth += 1;
                self.new.insert(&format!("[[{}] | {MARK}({mark})]", names.join(", ")));
            }
            None => self.new.insert(&format!("[{}]", names.join(", "))),
        }
        let mut seen = around.bound.clone();
        let mut texts = Vec::new();
        for level in &levels {
            let before = seen.clone();
            for statement in &level.statements {
                seen.extend(ranges::binds(statement).0);
            }
            texts.push(before);
        }
        for (level, before) in levels.iter().zip(texts).rev() {
            let spans: Vec<Span> = level.statements.iter().map(|statement| extent(self.text, statement)).collect();
            let mut covered = spans.clone();
            for (statement, span) in level.statements.iter().zip(&spans) {
                if !matches!(statement.literal, Literal::SomeIn { .. } | Literal::SomeVars { .. }) {
                    self.candidates(&[*span]);
                }
                statement_children(self, statement, &mut covered);
            }
            let mark = self.mark(&covered);
            self.new.insert(&format!(" | {MARK}({mark})"));
            for name in &level.declared {
                self.new.insert(&format!("; some {name}"));
            }
            for (statement, span) in level.statements.iter().zip(&spans) {
                self.new.insert("; ");
                self.statement(statement, *span, &before);
            }
            self.new.insert("]");
        }
        if opened > levels.len() {
            depth += 1;
            let start = around.start.map(|mark| format!("{MARK}({mark})"));
            let mut statements: Vec<String> = start.into_iter().collect();
            if let (Some(body), false) = (self.body, around.filters.is_empty()) {
                let [out, back] = [true, false].map(|excluded| {
                    self.plan.marks.push(Mark { file: self.file, excludes: Some((body, excluded)), ..Mark::default() });
                    self.plan.marks.len() - 1
                });
                let filters = around.filters.join("; ");
                statements.push(format!("{MARK}({out}); claimgate_f{number} := [{MARK}({back}) | {filters}]"));
            }
            self.new.insert(&format!(" | {}]", statements.join("; ")));
        }
        self.new.insert(&format!("; claimgate_r{number} := claimgate_l{number}{}", "[_]".repeat(depth)));
        for (index, name) in names.iter().enumerate() {
            self.new.insert(&format!("; {name} := claimgate_r{number}[{index}]"));
        }
    }

    /// A statement as it stands, with the queries in it rewritten.
    fn statement(&mut self, statement: &LiteralStmt, (start, end): Span, bound: &BTreeSet<String>) {
        let mut exprs: Vec<&Expr> = statement.with_mods.iter().map(|with| &*with.r#as).collect();
        self.new.go_to(start);
        match &statement.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn { key, value, collection, .. } => {
                exprs.extend(key.iter().chain([value, collection]).map(|expr| &**expr));
            }
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => exprs.push(expr),
            Literal::Every { domain, query, key, value, .. } => {
                self.copy_nested(&[domain], bound);
                let mut bound = bound.clone();
                bound.extend(key.iter().chain([value]).map(|name| name.text().to_owned()));
                self.nested_query(query, &[], &bound);
            }
        }
        let Some(output) = ranges::output(statement) else {
            self.copy_nested(&exprs, bound);
            self.new.copy(end);
            return;
        };
        // The engine binds no declared variable as output.
        self.queries += 1;
        let name = format!("claimgate_o{}", self.queries);
        let (from, to) = (self.start_of(output), self.end_of(output));
        exprs.retain(|expr| offset(expr.span().start) < from);
        self.copy_nested(&exprs, bound);
        self.new.copy(from);
        self.new.insert(&name);
        self.new.skip(to);
        self.new.copy(end);
        self.new.insert("; ");
        self.new.go_to(from);
        self.new.copy(to);
        let is_new = ranges::variables(output).iter().any(|name| !bound.contains(name));
        self.new.insert(&format!(" {} {name}", if is_new { ":=" } else { "=" }));
        self.new.go_to(end);
    }

    /// Copies up to `end`, with the queries in some expressions rewritten.
    fn copy_through(&mut self, exprs: &[&Expr], end: usize, bound: &BTreeSet<String>) {
        self.copy_nested(exprs, bound);
        self.new.copy(end.max(self.new.done()));
    }

    fn copy_nested(&mut self, exprs: &[&Expr], bound: &BTreeSet<String>) {
        let mut found = Vec::new();
        exprs.iter().for_each(|expr| nested(expr, &mut found));
        found.sort_by_key(|(query, _)| query.span.start);
        for (query, terms) in found {
            self.copy_nested(&terms, bound);
            self.nested_query(query, &terms, bound);
        }
    }

    fn nested_query(&mut self, query: &Ref<Query>, terms: &[&Expr], bound: &BTreeSet<String>) {
        let (Some(first), Some(last)) = (query.stmts.first(), query.stmts.last()) else { return };
        let (start, end) = (extent(self.text, first).0, extent(self.text, last).1);
        self.new.copy(start);
        let mut own = Vec::new();
        terms.iter().for_each(|term| ranges::argument(self, term, &mut own));
        let end_mark = (!own.is_empty()).then(|| self.mark(&own));
        let around = Around { bound, used_by: terms.to_vec(), end: end_mark, start: None, filters: Vec::new() };
        self.query(query, &around);
        self.new.go_to(end);
    }

    fn mark(&mut self, spans: &[Span]) -> usize {
        let ranges = spans.iter().map(|span| self.range(*span)).collect();
        self.plan.marks.push(Mark {
            file: self.file,
            ranges,
            group: self.group,
            body: self.body,
            stops: self.stops,
            ..Mark::default()
        });
        self.plan.marks.len() - 1
    }

    fn candidates(&mut self, spans: &[Span]) {
        let ranges: Vec<Range> = spans.iter().map(|span| self.range(*span)).collect();
        if let Some(known) = self.plan.files.get_mut(self.file) {
            known.1.extend(ranges);
        }
    }

    fn range(&self, (start, end): Span) -> Range {
        match self.origin {
            Some(origin) => origin.original_range(start, end),
            None => {
                Range { start: super::rewrite::place(self.text, start), end: super::rewrite::place(self.text, end) }
            }
        }
    }

    fn start_of(&self, expr: &Expr) -> usize {
        ranges::start(self.text, expr)
    }

    fn end_of(&self, expr: &Expr) -> usize {
        ranges::end(self.text, expr)
    }

    fn quoted_end(&self, end: usize) -> usize {
        match self.text.get(end..) {
            Some(rest) if rest.starts_with(['"', '`']) => end + 1,
            _ => end,
        }
    }
}

fn offset(at: u32) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
