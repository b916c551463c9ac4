//! `sprintf` with the verbs, flags and complaints of Go's `fmt`. Numbers as arguments of a width (`%*d`) and places of
//! arguments (`%[1]d`) are not supported and fail.

use regorus::Value;

use super::super::{builtins::BuiltinError, json::to_opa_json, lower};
use super::{
    Outcome,
    graphql::go_quote,
    operand::{self, failed},
};

/// Largest width and precision, as in Go.
const WIDEST: usize = 1_000_000;
/// Longest result.
const MOST_BYTES: usize = 8 << 20;

/// What stands between `%` and the verb.
#[derive(Default, Clone, Copy)]
struct Flags {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

/// An argument as OPA hands it to Go.
enum Argument {
    Text(String),
    /// Decimal digits with a sign, and Go's type.
    Integer(String, &'static str),
    Float(f64),
}

pub(super) fn sprintf(args: &[Value]) -> Outcome {
    let (format, values) = (operand::string(args, 0)?, operand::array(args, 1)?);
    let mut values = values.iter();
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (flags, after) = Flags::read(after)?;
        let mut chars = after.chars();
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some('[' | '*') => return Err(failed("places and widths of arguments are not supported")),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&Argument::of(value)?.format(verb, flags)),
            },
        }
        if out.len() > MOST_BYTES {
            return Err(BuiltinError::Limit(format!("text would be longer than {MOST_BYTES} bytes")));
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    let extra = values.map(|value| Argument::of(value).map(|value| value.shown())).collect::<Result<Vec<_>, _>>()?;
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(Value::from(out))
}

// === impl Flags ===

impl Flags {
    fn read(text: &str) -> Result<(Self, &str), BuiltinError> {
        let mut flags = Self::default();
        let mut rest = text;
        while let Some(c) = rest.chars().next().filter(|c| "+-# 0".contains(*c)) {
            match c {
                '+' => flags.plus = true,
                '-' => flags.minus = true,
                '#' => flags.sharp = true,
                ' ' => flags.space = true,
                _ => flags.zero = true,
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        let number = |text: &str| -> Result<(usize, usize), BuiltinError> {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let digits = text.get(..end).unwrap_or_default();
            let number = if digits.is_empty() { Some(0) } else { digits.parse().ok() };
            let number = number.filter(|number| *number <= WIDEST);
            number
                .map(|number| (number, end))
                .ok_or_else(|| BuiltinError::Limit("a width or precision is too large".to_owned()))
        };
        let (width, end) = number(rest)?;
        flags.width = width;
        rest = rest.get(end..).unwrap_or_default();
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, end) = number(after)?;
            flags.precision = Some(precision);
            rest = after.get(end..).unwrap_or_default();
        }
        Ok((flags, rest))
    }

    /// Filled up to the width; zeros stand behind a sign.
    fn pad(self, text: String, zeros: bool) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        if missing == 0 {
            return text;
        }
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if !zeros || !self.zero {
            return " ".repeat(missing) + &text;
        }
        let (sign, digits) = match text.strip_prefix(['+', '-', ' ']) {
            Some(digits) => (text.get(..1).unwrap_or_default(), digits),
            None => ("", text.as_str()),
        };
        format!("{sign}{}{digits}", "0".repeat(missing))
    }

    fn sign(self, negative: bool) -> &'static str {
        match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        }
    }
}

// === impl Argument ===

impl Argument {
    fn of(value: &Value) -> Result<Self, BuiltinError> {
        Ok(match value {
            Value::String(text) => Self::Text(text.to_string()),
            Value::Number(_) => {
                let text = to_opa_json(value);
                let digits = text.strip_prefix('-').unwrap_or(&text);
                if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return text.parse().map(Self::Float).map_err(|_| failed("a number cannot be read"));
                }
                let kind = if text.parse::<i64>().is_ok() { "int64" } else { "*big.Int" };
                Self::Integer(text, kind)
            }
            other => {
                let one = Value::from(std::collections::BTreeSet::from([other.clone()]));
                match lower::template_string(&[Value::from(vec![one])])? {
                    Value::String(text) => Self::Text(text.to_string()),
                    _ => Self::Text(String::new()),
                }
            }
        })
    }

    /// Type and value, for complaints.
    fn shown(&self) -> String {
        let value = self.format('v', Flags::default());
        match self {
            Self::Text(_) => format!("string={value}"),
            Self::Integer(_, kind) => format!("{kind}={value}"),
            Self::Float(_) => format!("float64={value}"),
        }
    }

    fn format(&self, verb: char, flags: Flags) -> String {
        let formatted = match self {
            Self::Text(text) => formatted_text(text, verb, flags),
            Self::Integer(digits, kind) => formatted_integer(digits, kind, verb, flags),
            Self::Float(float) => formatted_float(*float, verb, flags),
        };
        let kind = |this: &Self| match this {
            Self::Text(_) => "string",
            Self::Integer(_, kind) => kind,
            Self::Float(_) => "float64",
        };
        match verb {
            'T' => flags.pad(kind(self).to_owned(), false),
            _ => formatted.unwrap_or_else(|| format!("%!{verb}({})", self.shown())),
        }
    }
}

fn formatted_text(text: &str, verb: char, flags: Flags) -> Option<String> {
    let cut: String = match flags.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    };
    let hex = |upper: bool| -> String {
        cut.bytes().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let done = match verb {
        's' | 'v' => cut,
        'q' => go_quote(&cut),
        'x' => hex(false),
        'X' => hex(true),
        _ => return None,
    };
    Some(flags.pad(done, true))
}

fn formatted_integer(text: &str, kind: &str, verb: char, flags: Flags) -> Option<String> {
    let negative = text.starts_with('-');
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = digits.parse::<u128>().ok();
    let small = || number.and_then(|number| u32::try_from(number).ok()).and_then(char::from_u32).filter(|_| !negative);
    let prefix = |prefix: &'static str| if flags.sharp { prefix } else { "" };
    let (prefix, digits) = match verb {
        'd' | 'v' => ("", digits.to_owned()),
        's' if kind == "*big.Int" => ("", digits.to_owned()),
        'b' => (prefix("0b"), format!("{:b}", number?)),
        'o' => (prefix("0"), format!("{:o}", number?)),
        'O' => ("0o", format!("{:o}", number?)),
        'x' => (prefix("0x"), format!("{:x}", number?)),
        'X' => (prefix("0X"), format!("{:X}", number?)),
        'c' if kind == "int64" => return Some(flags.pad(small().unwrap_or('\u{fffd}').to_string(), false)),
        'q' if kind == "int64" => {
            let quoted = match small().unwrap_or('\u{fffd}') {
                '\'' => "'\\''".to_owned(),
                c => {
                    let quoted = go_quote(&c.to_string()).replace("\\\"", "\"");
                    format!("'{}'", quoted.get(1..quoted.len() - 1).unwrap_or_default())
                }
            };
            return Some(flags.pad(quoted, false));
        }
        'U' if kind == "int64" && !negative => return Some(flags.pad(format!("U+{:04X}", number?), false)),
        _ => return None,
    };
    let least = flags.precision.unwrap_or_default();
    let filled = format!("{}{digits}", "0".repeat(least.saturating_sub(digits.len())));
    let whole = format!("{}{prefix}{filled}", flags.sign(negative));
    Some(flags.pad(whole, flags.precision.is_none()))
}

fn formatted_float(float: f64, verb: char, flags: Flags) -> Option<String> {
    let size = float.abs();
    let text = match verb {
        'f' | 'F' => format!("{size:.*}", flags.precision.unwrap_or(6)),
        'e' => exponent(&format!("{size:.*e}", flags.precision.unwrap_or(6))),
        'E' => exponent(&format!("{size:.*e}", flags.precision.unwrap_or(6))).to_uppercase(),
        'v' | 'g' => shortest(size, flags.precision),
        'G' => shortest(size, flags.precision).to_uppercase(),
        _ => return None,
    };
    Some(flags.pad(format!("{}{text}", flags.sign(float.is_sign_negative())), true))
}

/// `1.5e0` → `1.5e+00`.
fn exponent(text: &str) -> String {
    let Some((mantissa, exponent)) = text.split_once('e') else { return text.to_owned() };
    let exponent = exponent.parse::<i32>().unwrap_or_default();
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// As `%g` has it: an exponent for what is large or small.
fn shortest(size: f64, precision: Option<usize>) -> String {
    let scientific = match precision {
        Some(digits) => format!("{size:.*e}", digits.max(1) - 1),
        None => format!("{size:e}"),
    };
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power = power.parse::<i32>().unwrap_or_default();
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    let most = precision.map_or(6, |digits| i32::try_from(digits.max(1)).unwrap_or(i32::MAX));
    if power < -4 || power >= most {
        return exponent(&format!("{mantissa}e{power}"));
    }
    format!("{mantissa}e{power}").parse::<f64>().map_or_else(|_| scientific.clone(), |value| value.to_string())
}
