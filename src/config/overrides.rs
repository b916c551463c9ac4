//! `--set key=value` and the flags that stand for keys, put into the tree before anything is read from it. Only the
//! grammar of keys is known here; whether a key exists is the schema's business.

use std::sync::Arc;

use super::{
    problem::{Code, Report},
    tree::{self, Entry, Node, Place, Value},
};

/// One override from the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Override {
    /// `--set key=value`; the value is YAML.
    Set(String),
    /// A flag that replaces a key by text: `--listen 127.0.0.1:8080`.
    Flag {
        /// As typed, for messages: `--listen 127.0.0.1:8080`.
        shown: String,
        /// `listen`.
        key: &'static str,
        /// `127.0.0.1:8080`.
        value: String,
    },
    /// A flag that appends text to a list: `--bundle rego`.
    Append {
        /// As typed, for messages: `--bundle rego`.
        shown: String,
        /// `policy.bundles`.
        key: &'static str,
        /// `rego`.
        value: String,
    },
}

/// Puts all overrides into the tree, in order.
pub(super) fn apply(root: &mut Node, overrides: &[Override], report: &Report) {
    for one in overrides {
        let (place, key, value) = match one {
            Override::Set(argument) => {
                let place = Place::Argument(Arc::from(format!("--set {argument}")));
                let Some((key, value)) = argument.split_once('=') else {
                    report.add(Code::Argument, &place, "", "it has no `=`; write `--set key=value`");
                    continue;
                };
                let node = tree::parse_argument(value, &place);
                (place, key.trim().to_owned(), node)
            }
            Override::Flag { shown, key, value } => {
                let place = Place::Argument(Arc::from(shown.as_str()));
                let node = tree::text_argument(value, &place);
                (place, (*key).to_owned(), node)
            }
            Override::Append { shown, key, value } => {
                let place = Place::Argument(Arc::from(shown.as_str()));
                let node = tree::text_argument(value, &place);
                (place, format!("{key}[+]"), node)
            }
        };
        let put = parse_key(&key).and_then(|steps| put(root, &steps, value, &place));
        if let Err(message) = put {
            report.add(Code::Argument, &place, "", message);
        }
    }
}

/// One step of a key path.
#[derive(Debug, PartialEq, Eq)]
enum Step<'k> {
    Name(&'k str),
    Index(usize),
    /// One past the end.
    End,
}

/// `issuers[0].claims.keep`.
fn parse_key(key: &str) -> Result<Vec<Step<'_>>, String> {
    let wrong = || format!("`{key}` is not a key; write one such as `limits.body_bytes` or `issuers[0].leeway`");
    let mut steps = Vec::new();
    for part in key.split('.') {
        let (name, mut rest) = part.split_at(part.find('[').unwrap_or(part.len()));
        if name.is_empty() {
            return Err(wrong());
        }
        steps.push(Step::Name(name));
        while !rest.is_empty() {
            let (index, after) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')).ok_or_else(wrong)?;
            steps.push(if index == "+" { Step::End } else { Step::Index(index.parse().map_err(|_| wrong())?) });
            rest = after;
        }
    }
    Ok(steps)
}

fn put(node: &mut Node, steps: &[Step<'_>], value: Node, place: &Place) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *node = value;
        return Ok(());
    };
    match step {
        Step::Name(name) => {
            if matches!(node.value, Value::Null) {
                *node = Node { place: place.clone(), value: Value::Map(Vec::new()) };
            }
            let found = node.describe();
            let Value::Map(entries) = &mut node.value else {
                return Err(format!("`{name}` cannot be set inside {found}"));
            };
            let index = entries.iter().position(|entry| entry.key == *name).unwrap_or_else(|| {
                let node = Node { place: place.clone(), value: Value::Null };
                entries.push(Entry { key: (*name).to_owned(), place: place.clone(), node });
                entries.len() - 1
            });
            let Some(entry) = entries.get_mut(index) else { return Ok(()) };
            if rest.is_empty() {
                entry.place = place.clone();
            }
            put(&mut entry.node, rest, value, place)
        }
        Step::Index(_) | Step::End => {
            match node.value {
                Value::Null => *node = Node { place: place.clone(), value: Value::List(Vec::new()) },
                // `listen` may be one address or a list of them.
                Value::Text { .. } if *step == Step::End => {
                    let only = node.clone();
                    node.value = Value::List(vec![only]);
                }
                _ => {}
            }
            let found = node.describe();
            let Value::List(items) = &mut node.value else {
                return Err(format!("an item cannot be set inside {found}"));
            };
            let length = items.len();
            let index = match step {
                Step::Index(index) => *index,
                _ => length,
            };
            if index == length {
                items.push(Node { place: place.clone(), value: Value::Null });
            }
            match items.get_mut(index) {
                Some(item) => put(item, rest, value, place),
                None => Err(format!("there is no item [{index}]; the list has {length}, and [{length}] appends one")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_names_and_indices() {
        use Step::{End, Index, Name};
        assert_eq!(parse_key("a.b[0][1].c"), Ok(vec![Name("a"), Name("b"), Index(0), Index(1), Name("c")]));
        assert_eq!(parse_key("a[+]"), Ok(vec![Name("a"), End]));
        for key in ["", ".", "a.", "[0]", "a[", "a[x]", "a[0]b", "a]"] {
            assert_eq!(parse_key(key).is_ok(), key == "a]", "{key}");
        }
    }
}
