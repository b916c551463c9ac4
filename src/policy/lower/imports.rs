//! Imports that the engine must not see. What an import stands for was put in its place wherever it is named; a variable
//! of that name the engine would still take for the import, and it prints a warning about `import input`. Imports of
//! keywords stay.

use regorus::unstable::{Expr, Import, Module};

use super::rewrite::{Rewriter, Rewritten, offset};
use crate::policy::syntax::{imported, imported_name};

/// The text without imports of documents; `None` when it has none.
pub(super) fn without_idle(text: &str, module: &Module) -> Option<Rewritten> {
    let is_input = |import: &&Import| matches!(import.refr.as_ref(), Expr::Var { .. });
    let names: Vec<String> = imported(module).map(|import| import.alias).collect();
    let is_document =
        |import: &&Import| is_input(import) || imported_name(import).is_some_and(|name| names.contains(&name));
    let mut idle = module.imports.iter().filter(is_document).peekable();
    idle.peek()?;
    let mut rewriter = Rewriter::new(text);
    for import in idle {
        rewriter.copy(offset(import.span.start));
        rewriter.blank(offset(import.span.end));
    }
    Some(rewriter.finish())
}
