//! Policies made from a sequence of choices. The same choices give the same policy, fewer and smaller choices a simpler
//! one, and choices that have run out count as zero: so whatever makes a sequence smaller makes a policy smaller.
//!
//! Terms have a kind, because OPA refuses what it can see to be of a wrong type; what comes from `input` and `data` is of
//! any kind, and that is where types get mixed.

use super::words::{BUILTINS, KINDS, Kind, PLACES};

/// A made policy.
#[derive(Debug, Clone)]
pub(super) struct Module {
    /// A statement a line.
    pub(super) text: String,
    /// The rules that are no functions.
    pub(super) rules: Vec<String>,
}

/// A rule that later ones may use.
#[derive(Clone)]
struct Rule {
    name: String,
    kind: Kind,
    /// Kinds of the arguments; `None`: not a function.
    args: Option<Vec<Kind>>,
}

struct Maker<'c> {
    choices: std::slice::Iter<'c, u16>,
    rules: Vec<Rule>,
    /// Variables that have a value here.
    scope: Vec<(String, Kind)>,
    variables: usize,
    depth: usize,
    /// May an expression bind variables by iterating? Not below `not`, nor in a head.
    iterates: bool,
}

/// The policy of these choices.
pub(super) fn module(choices: &[u16]) -> Module {
    let mut maker =
        Maker { choices: choices.iter(), rules: Vec::new(), scope: Vec::new(), variables: 0, depth: 0, iterates: true };
    let mut text = String::from("package g\n\n");
    for index in 0..=maker.below(4) {
        maker.rule(index, &mut text);
    }
    let rules = maker.rules.iter().filter(|rule| rule.args.is_none()).map(|rule| rule.name.clone()).collect();
    Module { text, rules }
}

// === impl Maker ===

impl Maker<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.choices.next().copied().unwrap_or_default()) % bound
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    fn kind(&mut self) -> Kind {
        KINDS[self.below(KINDS.len())]
    }

    fn variable(&mut self, kind: Kind) -> String {
        self.variables += 1;
        let name = format!("v{}", self.variables);
        self.scope.push((name.clone(), kind));
        name
    }

    /// Everything that `work` binds is gone afterwards.
    fn nested<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let (known, iterates) = (self.scope.len(), self.iterates);
        self.depth += 1;
        let made = work(self);
        self.depth -= 1;
        self.scope.truncate(known);
        self.iterates = iterates;
        made
    }

    // --- rules ---

    fn rule(&mut self, index: usize, text: &mut String) {
        let name = format!("r{index}");
        let kind = self.kind();
        match self.below(7) {
            // Complete, maybe with a default, further definitions and `else`.
            shape @ 0..=2 => {
                if shape == 1 {
                    let value = self.literal(kind, 1);
                    text.push_str(&format!("default {name} := {value}\n\n"));
                }
                for _ in 0..=self.below(2) {
                    self.definition(&format!("{name} :="), kind, text);
                    for _ in 0..self.below(3) {
                        text.pop();
                        self.definition("else :=", kind, text);
                    }
                }
                self.rules.push(Rule { name, kind, args: None });
            }
            3 => {
                for _ in 0..=self.below(2) {
                    self.definition(&format!("{name} contains"), kind, text);
                }
                self.rules.push(Rule { name, kind: Kind::Set, args: None });
            }
            4 | 5 => {
                for _ in 0..=self.below(2) {
                    self.nested(|maker| {
                        let mut body = String::new();
                        maker.body(1, &mut body);
                        maker.iterates = false;
                        let key = if maker.below(3) == 0 { maker.leaf(Kind::Any) } else { maker.expr(Kind::Text) };
                        let value = maker.expr(kind);
                        text.push_str(&format!("{name}[{key}] := {value} if {{\n{body}}}\n\n"));
                    });
                }
                self.rules.push(Rule { name, kind: Kind::Object, args: None });
            }
            _ => self.function(name, kind, text),
        }
    }

    fn function(&mut self, name: String, kind: Kind, text: &mut String) {
        let args: Vec<Kind> = (0..=self.below(2)).map(|_| self.kind()).collect();
        if self.below(4) == 1 {
            let places: Vec<&str> = args.iter().map(|_| "_").collect();
            let value = self.literal(kind, 1);
            text.push_str(&format!("default {name}({}) := {value}\n\n", places.join(", ")));
        }
        for _ in 0..=self.below(2) {
            self.nested(|maker| {
                let names: Vec<String> = args
                    .iter()
                    .map(|kind| if maker.below(5) == 1 { maker.literal(*kind, 1) } else { maker.variable(*kind) })
                    .collect();
                maker.definition(&format!("{name}({}) :=", names.join(", ")), kind, text);
                for _ in 0..maker.below(2) {
                    text.pop();
                    maker.definition("else :=", kind, text);
                }
            });
        }
        self.rules.push(Rule { name, kind, args: Some(args) });
    }

    /// `head value if { … }`; the value may use what the body binds.
    fn definition(&mut self, head: &str, kind: Kind, text: &mut String) {
        self.nested(|maker| {
            let mut body = String::new();
            maker.body(0, &mut body);
            maker.iterates = false;
            let value = maker.expr(kind);
            if body.is_empty() {
                text.push_str(&format!("{head} {value}\n\n"));
            } else {
                text.push_str(&format!("{head} {value} if {{\n{body}}}\n\n"));
            }
        });
    }

    // --- statements ---

    fn body(&mut self, least: usize, text: &mut String) {
        let count = least + self.below(if self.depth > 2 { 2 } else { 4 });
        for _ in 0..count {
            let statement = self.statement();
            text.push_str(&format!("\t{statement}\n"));
        }
    }

    fn inline_body(&mut self) -> String {
        let statements: Vec<String> = (0..=self.below(2)).map(|_| self.statement()).collect();
        statements.join("; ")
    }

    fn statement(&mut self) -> String {
        let choice = self.below(if self.depth > 3 { 7 } else { 12 });
        match choice {
            0 => self.expr(Kind::Bool),
            1 => {
                let kind = self.kind();
                let value = self.expr(kind);
                format!("{} := {value}", self.variable(kind))
            }
            2 | 3 => {
                let kind = self.kind();
                let sign = self.of(&["==", "!=", "<", "<=", ">", ">=", "=="]);
                let (left, right) = (self.expr(kind), self.expr(kind));
                format!("{left} {sign} {right}")
            }
            4 if self.iterates => {
                let from = self.collection();
                match self.below(3) {
                    0 => format!("some {} in {from}", self.variable(Kind::Any)),
                    1 => {
                        let key = self.variable(Kind::Any);
                        format!("some {key}, {} in {from}", self.variable(Kind::Any))
                    }
                    _ => format!("some [{}, _] in {from}", self.variable(Kind::Any)),
                }
            }
            5 => {
                let (item, from) = (self.expr(Kind::Any), self.collection());
                format!("{item} in {from}")
            }
            6 if self.iterates => {
                let from = self.place();
                match self.below(4) {
                    0 => {
                        let variable = self.variable(Kind::Any);
                        format!("{from}[{variable}]")
                    }
                    1 => {
                        let (key, value) = (self.variable(Kind::Any), self.variable(Kind::Any));
                        format!("{value} = {from}[{key}]")
                    }
                    2 => {
                        let (one, other) = (self.variable(Kind::Any), self.variable(Kind::Any));
                        format!("[{one}, {other}] = {from}")
                    }
                    _ => {
                        let (one, other) = (self.variable(Kind::Any), self.variable(Kind::Any));
                        format!("walk({from}, [{one}, {other}])")
                    }
                }
            }
            7 | 8 => self.nested(|maker| {
                maker.iterates = false;
                // OPA 1.22.2 takes a body of nothing but `not true` for `true` where the head refers to something.
                format!("not {}", Some(maker.simple()).filter(|made| made != "true").unwrap_or("false".to_owned()))
            }),
            9 => {
                let from = self.collection();
                self.nested(|maker| {
                    // OPA refuses those that nothing uses.
                    let value = maker.variable(Kind::Any);
                    let (names, used) = if maker.below(2) == 0 {
                        (value.clone(), value)
                    } else {
                        let key = maker.variable(Kind::Any);
                        (format!("{key}, {value}"), format!("[{key}, {value}]"))
                    };
                    let mut body = String::new();
                    maker.body(1, &mut body);
                    format!("every {names} in {from} {{\n{body}\t{used}\n\t}}")
                })
            }
            10 | 11 => {
                let what = self.nested(Self::simple);
                let place = self.of(&["input.a", "input", "input.o.k", "data.d.n", "data.d.list", "input.xs"]);
                let kind = self.kind();
                let value = self.nested(|maker| {
                    maker.iterates = false;
                    maker.leaf(kind)
                });
                format!("{what} with {place} as {value}")
            }
            _ => self.simple(),
        }
    }

    /// A statement that binds nothing for the others.
    fn simple(&mut self) -> String {
        let kind = self.kind();
        match self.below(3) {
            0 => self.expr(Kind::Bool),
            1 => {
                let (left, right) = (self.expr(kind), self.expr(kind));
                format!("{left} {} {right}", self.of(&["==", "!=", "<", ">="]))
            }
            _ => self.expr(kind),
        }
    }

    // --- terms ---

    fn collection(&mut self) -> String {
        let kind = [Kind::Any, Kind::Array, Kind::Object, Kind::Set][self.below(4)];
        if kind == Kind::Any { self.place() } else { self.expr(kind) }
    }

    /// A reference into `input`, `data` or an earlier rule.
    fn place(&mut self) -> String {
        let mut text = match self.rules.iter().filter(|rule| rule.args.is_none()).count() {
            count if count > 0 && self.below(3) == 1 => {
                let plain: Vec<&Rule> = self.rules.iter().filter(|rule| rule.args.is_none()).collect();
                let open: Vec<String> = plain
                    .iter()
                    .filter(|rule| matches!(rule.kind, Kind::Object | Kind::Any | Kind::Array))
                    .map(|rule| rule.name.clone())
                    .collect();
                if open.is_empty() { "input.xs".to_owned() } else { open[self.below(open.len())].clone() }
            }
            _ => self.of(PLACES).to_owned(),
        };
        for _ in 0..self.below(3) {
            let step = match self.below(6) {
                0 => "[0]".to_owned(),
                1 => "[\"k\"]".to_owned(),
                2 if self.iterates => "[_]".to_owned(),
                3 => "[\"ann\"]".to_owned(),
                4 if !self.scope.is_empty() => {
                    let index = self.below(self.scope.len());
                    format!("[{}]", self.scope[index].0)
                }
                _ => "[1]".to_owned(),
            };
            text.push_str(&step);
        }
        text
    }

    /// A term without calls.
    fn leaf(&mut self, kind: Kind) -> String {
        let fitting: Vec<String> = self
            .scope
            .iter()
            .filter(|(_, own)| *own == kind || *own == Kind::Any || kind == Kind::Any)
            .map(|(name, _)| name.clone())
            .collect();
        match self.below(4) {
            1 if !fitting.is_empty() => fitting[self.below(fitting.len())].clone(),
            2 | 3 => self.place(),
            _ => self.literal(kind, 0),
        }
    }

    fn literal(&mut self, kind: Kind, depth: usize) -> String {
        let deep = depth > 1;
        match kind {
            Kind::Number => self
                .of(&[
                    "0",
                    "1",
                    "2",
                    "-1",
                    "10",
                    "1.5",
                    "-0.25",
                    "1e3",
                    "9007199254740993",
                    "1e-7",
                    "3.0",
                    "100000000000000000000",
                ])
                .to_owned(),
            Kind::Text => self
                .of(&[
                    r#""a""#,
                    r#""""#,
                    r#""k""#,
                    r#""ann""#,
                    r#""a,b,a""#,
                    r#""é€""#,
                    r#""1.5""#,
                    r#""%v %d %s""#,
                    r#""1.2.3""#,
                    r#""A b""#,
                    r#""10.0.0.0/8""#,
                    r#""2h""#,
                    r#""5Ki""#,
                    r#""[a-c]+""#,
                    r#""\n<&>""#,
                    "`raw\\d`",
                ])
                .to_owned(),
            Kind::Bool => self.of(&["true", "false"]).to_owned(),
            Kind::Array if deep => "[]".to_owned(),
            Kind::Object if deep => "{}".to_owned(),
            Kind::Set if deep => "set()".to_owned(),
            Kind::Array => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.any_literal(depth + 1)).collect();
                format!("[{}]", items.join(", "))
            }
            Kind::Set => {
                let items: Vec<String> = (0..self.below(4)).map(|_| self.any_literal(depth + 1)).collect();
                if items.is_empty() { "set()".to_owned() } else { format!("{{{}}}", items.join(", ")) }
            }
            Kind::Object => {
                let count = self.below(3);
                let members = ["\"k\"", "\"ann\"", "1"].iter().take(count);
                let members: Vec<String> =
                    members.map(|key| format!("{key}: {}", self.any_literal(depth + 1))).collect();
                format!("{{{}}}", members.join(", "))
            }
            Kind::Any => self.any_literal(depth),
        }
    }

    fn any_literal(&mut self, depth: usize) -> String {
        match self.kind() {
            Kind::Any => "null".to_owned(),
            kind => self.literal(kind, depth),
        }
    }

    fn expr(&mut self, kind: Kind) -> String {
        if self.depth > 4 {
            return self.leaf(kind);
        }
        let choice = self.below(9);
        self.depth += 1;
        let made = match choice {
            3 | 4 => self.call(kind),
            5 => self.operation(kind),
            6 => self.comprehension(kind),
            7 => self.own_call(kind),
            8 => self.composite(kind),
            _ => self.leaf(kind),
        };
        self.depth -= 1;
        made
    }

    fn call(&mut self, kind: Kind) -> String {
        let fitting: Vec<_> = BUILTINS
            .iter()
            .filter(|(_, _, result)| *result == kind || *result == Kind::Any || kind == Kind::Any)
            .collect();
        if fitting.is_empty() {
            return self.leaf(kind);
        }
        let (name, kinds, _) = fitting[self.below(fitting.len())];
        let args: Vec<String> = kinds.iter().map(|kind| self.expr(*kind)).collect();
        format!("{name}({})", args.join(", "))
    }

    fn operation(&mut self, kind: Kind) -> String {
        let (kind, signs): (Kind, &[&str]) = match kind {
            Kind::Number => (kind, &["+", "-", "*", "/", "%"]),
            Kind::Set => (kind, &["|", "&", "-"]),
            Kind::Bool => (Kind::Any, &["<", "==", ">=", "!=", ">", "<="]),
            kind => return self.leaf(kind),
        };
        let sign = self.of(signs);
        let (left, right) = (self.expr(kind), self.expr(kind));
        if kind == Kind::Any { self.leaf(Kind::Bool) } else { format!("({left} {sign} {right})") }
    }

    fn comprehension(&mut self, kind: Kind) -> String {
        if !matches!(kind, Kind::Array | Kind::Set | Kind::Object) {
            return self.leaf(kind);
        }
        self.nested(|maker| {
            maker.iterates = true;
            match kind {
                Kind::Array => {
                    let body = maker.inline_body();
                    format!("[{} | {body}]", maker.leaf(Kind::Any))
                }
                Kind::Set => {
                    let body = maker.inline_body();
                    format!("{{{} | {body}}}", maker.leaf(Kind::Any))
                }
                Kind::Object => {
                    let body = maker.inline_body();
                    let key = maker.leaf(Kind::Text);
                    format!("{{{key}: {} | {body}}}", maker.leaf(Kind::Any))
                }
                kind => maker.leaf(kind),
            }
        })
    }

    fn own_call(&mut self, kind: Kind) -> String {
        let fitting: Vec<Rule> = self
            .rules
            .iter()
            .filter(|rule| rule.kind == kind || rule.kind == Kind::Any || kind == Kind::Any)
            .cloned()
            .collect();
        if fitting.is_empty() {
            return self.leaf(kind);
        }
        let rule = fitting[self.below(fitting.len())].clone();
        match rule.args {
            None => rule.name,
            Some(args) => {
                let args: Vec<String> = args.iter().map(|kind| self.expr(*kind)).collect();
                format!("{}({})", rule.name, args.join(", "))
            }
        }
    }

    /// An array, set or object of what is no literal.
    fn composite(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Array => format!("[{}, {}]", self.expr(Kind::Any), self.leaf(Kind::Any)),
            Kind::Set => format!("{{{}, {}}}", self.expr(Kind::Any), self.leaf(Kind::Any)),
            Kind::Object => format!("{{\"k\": {}, {}: 1}}", self.expr(Kind::Any), self.leaf(Kind::Text)),
            kind => self.leaf(kind),
        }
    }
}
