//! Types as text, as OPA writes them in its messages, and back. It reads only what it writes.

use std::{fmt::Write as _, sync::Arc};

use regorus::Value;

use super::{Ty, Type, any, array, object, plain, set};
use crate::policy::json;

/// A type of more characters than this is shown by its outermost name alone where space is short.
const WIDE: usize = 32;

/// `object<a: number>[string: any]`; `???` for what is not known.
pub(in crate::policy) fn sprint(ty: &Ty) -> String {
    let mut out = String::new();
    write_type(&mut out, ty, usize::MAX);
    out
}

/// As [`sprint`], with `...` for what is in it when that is long.
pub(in crate::policy) fn elided(ty: &Ty) -> String {
    let whole = sprint(ty);
    if whole.chars().count() <= WIDE {
        return whole;
    }
    let mut out = String::new();
    write_type(&mut out, ty, 0);
    out
}

fn write_type(out: &mut String, ty: &Ty, depth: usize) {
    let Some(ty) = ty else {
        out.push_str("???");
        return;
    };
    let cut = depth == 0;
    let below = depth.saturating_sub(1);
    match ty.as_ref() {
        Type::Null => out.push_str("null"),
        Type::Boolean => out.push_str("boolean"),
        Type::Number => out.push_str("number"),
        Type::String => out.push_str("string"),
        Type::Array { rest, fixed } => {
            out.push_str("array");
            list(out, "<", fixed, ">", cut, |out, item| write_type(out, item, below));
            if rest.is_some() {
                list(out, "[", std::slice::from_ref(rest), "]", cut, |out, rest| write_type(out, rest, below));
            }
        }
        Type::Object { rest, fixed } => {
            out.push_str("object");
            list(out, "<", fixed, ">", cut, |out, (key, value)| {
                let _ = write!(out, "{}: ", bare(key));
                write_type(out, value, below);
            });
            list(out, "[", rest.as_slice(), "]", cut, |out, (key, value)| {
                write_type(out, key, below);
                out.push_str(": ");
                write_type(out, value, below);
            });
        }
        Type::Set(of) => {
            out.push_str("set");
            if of.is_some() {
                list(out, "[", std::slice::from_ref(of), "]", cut, |out, of| write_type(out, of, below));
            }
        }
        Type::Any(of) => {
            out.push_str("any");
            list(out, "<", of, ">", cut, |out, member| write_type(out, &Some(Arc::clone(member)), below));
        }
        Type::Function { arguments, result } => {
            out.push('(');
            for (index, argument) in arguments.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_type(out, argument, below);
            }
            out.push_str(") => ");
            write_type(out, result, below);
        }
    }
}

fn list<T>(out: &mut String, open: &str, items: &[T], close: &str, cut: bool, write: impl Fn(&mut String, &T)) {
    if items.is_empty() {
        return;
    }
    out.push_str(open);
    if cut {
        out.push_str("...");
    } else {
        for (index, item) in items.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { ", " });
            write(out, item);
        }
    }
    out.push_str(close);
}

fn bare(key: &Value) -> String {
    match key {
        Value::String(text) => text.to_string(),
        other => json::to_opa_json(other),
    }
}

/// Reads types; what it does not understand is `any`.
pub(super) struct Reader<'t> {
    pub rest: &'t str,
}

impl<'t> Reader<'t> {
    pub(super) fn ty(&mut self) -> Ty {
        match self.word() {
            "null" => plain(Type::Null),
            "boolean" => plain(Type::Boolean),
            "number" => plain(Type::Number),
            "string" => plain(Type::String),
            "void" => None,
            "array" => {
                let fixed = self.items("<", ">", Self::ty);
                let rest = self.items("[", "]", Self::ty).pop().flatten();
                array(fixed, rest)
            }
            "object" => {
                let fixed = self.items("<", ">", |reader| {
                    let key = reader.word();
                    reader.take(": ");
                    (Value::from(key), reader.ty())
                });
                let rest = self.items("[", "]", |reader| {
                    let key = reader.ty();
                    reader.take(": ");
                    (key, reader.ty())
                });
                object(fixed, rest.into_iter().next())
            }
            "set" => set(self.items("[", "]", Self::ty).pop().flatten()),
            "any" => {
                let of: Vec<Arc<Type>> = self.items("<", ">", Self::ty).into_iter().flatten().collect();
                plain(Type::Any(of))
            }
            _ => any(),
        }
    }

    pub(super) fn take(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> &'t str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        word
    }

    fn items<T>(&mut self, open: &str, close: &str, read: impl Fn(&mut Self) -> T) -> Vec<T> {
        let mut items = Vec::new();
        if self.take(open) {
            items.push(read(self));
            while self.take(", ") {
                items.push(read(self));
            }
            self.take(close);
        }
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Ty {
        Reader { rest: text }.ty()
    }

    #[test]
    fn what_is_written_is_read() {
        crate::policy::types::refuel(1_000_000);
        for text in [
            "null",
            "any<number, string>",
            "array<boolean, object[any: any]>[string]",
            "object<a: number, b: array>[string: any]",
            "set[any<number, array[any]>]",
        ] {
            assert_eq!(sprint(&parse(text)), text);
        }
        assert_eq!(elided(&parse("any<string, array[any], object[any: any]>")), "any<...>");
        assert_eq!(elided(&parse("array[string]")), "array[string]");
    }
}
