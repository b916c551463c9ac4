//! The engine's own builtins, called outside of its interpreter: their errors name no place, and are said as OPA does.

use std::{cell::Cell, sync::LazyLock};

use regorus::{
    LimitError, Source, Value,
    unstable::{BUILTINS, Expr, Parser, Ref, Span},
};

use super::{CURRENT, Outcome, limit};
use crate::policy::{
    blame::{self, Sentence},
    builtins::{BuiltinError, FAILED_MARK, TYPE_MARK},
    error::{Rendered, is_of_type},
    json,
};

/// A place and parameters for the engine's builtins, which name them in their errors only: parameter `n` (from 1) is in
/// column `2n`.
static NOWHERE: LazyLock<Option<(Span, Vec<Ref<Expr>>)>> = LazyLock::new(|| {
    let source = Source::from_contents("builtin".to_owned(), "[0,0,0,0,0,0,0,0]".to_owned()).ok()?;
    match &Parser::new(&source).ok()?.parse_expr().ok()? {
        Expr::Array { span, items, .. } => Some((span.clone(), items.clone())),
        _ => None,
    }
});

pub(in crate::policy) fn engine(name: &'static str, args: &[Value]) -> Outcome {
    let (Some((call, _)), Some((span, params))) = (BUILTINS.get(name), &*NOWHERE) else {
        return Err(BuiltinError::Failed(format!("{name} is not available")));
    };
    let strict = CURRENT.with(Cell::get).is_some_and(|current| current.strict);
    let params = params.get(..args.len()).unwrap_or_default();
    call(span, params, args, strict).map_err(|error| {
        if error.downcast_ref::<LimitError>().is_some() {
            return limit(name, error);
        }
        if !strict {
            // It is not told.
            return BuiltinError::Failed(String::new());
        }
        let Rendered { message, location } = Rendered::parse(&format!("{error:#}"));
        let operand = location.and_then(|at| usize::try_from(at.col / 2).ok()).filter(|operand| *operand > 0);
        let of_type = is_of_type(&message) || message.contains(TYPE_MARK);
        let Sentence { of_type, text } =
            blame::of_arguments(name, operand, &message.replace(TYPE_MARK, ""), of_type, args);
        if of_type { BuiltinError::Type(text) } else { failed(&text) }
    })
}

/// A failure whose sentence may speak of operands and types.
pub(super) fn failed(sentence: &str) -> BuiltinError {
    BuiltinError::Failed(format!("{FAILED_MARK}{sentence}"))
}

/// Why a text is no number, in OPA's words.
pub(super) fn no_number(name: &str, text: &str) -> String {
    let amount = if name == "units.parse" { "amount" } else { "byte amount" };
    match text.trim_matches('"').bytes().next() {
        _ if name == "to_number" => format!("strconv.ParseFloat: parsing {}: invalid syntax", json::quote(text)),
        Some(b'0'..=b'9' | b'.' | b'+' | b'-' | b'e' | b'E') => {
            format!("{name}: could not parse {amount} to a number")
        }
        _ => format!("{name}: no {amount} provided"),
    }
}
