//! `net.cidr_*`: address ranges as Go's `net` package reads them, and `net.lookup_ip_addr`, which asks the port of
//! [`http`](super::super::http) for what is no address.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use regorus::Value;

use super::super::{
    builtins::BuiltinError,
    guard,
    http::{HttpError, Session},
};
use super::{
    Outcome,
    operand::{self, failed},
};

/// Longest name that DNS has.
const LONGEST_NAME: usize = 253;
/// Most comparisons of one `net.cidr_contains_matches`.
const MAX_PAIRS: usize = 1 << 20;

/// A range of addresses of one family; IPv4-mapped IPv6 addresses are IPv4.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    v6: bool,
    first: u128,
    last: u128,
}

// === impl Range ===

impl Range {
    fn new(address: IpAddr, prefix: u32) -> Self {
        let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        let prefix = if mapped { prefix.saturating_sub(96) } else { prefix };
        let (v6, bits) = number(address);
        let width = if v6 { 128 } else { 32 };
        let host = 1_u128.checked_shl(width - prefix).unwrap_or(0).wrapping_sub(1);
        Self { v6, first: bits & !host, last: bits | host }
    }

    /// As Go's `ParseCIDR`.
    fn parse(text: &str) -> Result<Self, BuiltinError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let address: IpAddr = address.parse().ok()?;
            let digits = !prefix.is_empty() && prefix.len() <= 4 && prefix.bytes().all(|byte| byte.is_ascii_digit());
            let prefix: u32 = digits.then(|| prefix.parse().ok()).flatten()?;
            let width = if address.is_ipv6() { 128 } else { 32 };
            (prefix <= width).then(|| Self::new(address, prefix))
        };
        parse().ok_or_else(|| failed(format!("invalid CIDR address: {text}")))
    }

    fn contains(&self, other: &Self) -> bool {
        self.v6 == other.v6 && self.first <= other.first && other.last <= self.last
    }

    /// The fewest networks that together are this range.
    fn networks(&self, out: &mut BTreeSet<Value>) {
        let width = if self.v6 { 128 } else { 32 };
        let mut first = self.first;
        loop {
            let left = self.last - first;
            let aligned = first.trailing_zeros().min(width);
            // The largest power of two that is at most `left + 1`.
            let fits = if left == u128::MAX { 128 } else { (left + 1).ilog2() };
            let host = aligned.min(fits);
            out.insert(Value::from(format!("{}/{}", address(self.v6, first), width - host)));
            let step = 1_u128.checked_shl(host).unwrap_or(0).wrapping_sub(1);
            match first.checked_add(step).filter(|end| *end < self.last) {
                Some(end) => first = end + 1,
                None => return,
            }
        }
    }
}

/// Does the first range contain the second, or the address?
pub(super) fn contains(args: &[Value]) -> Outcome {
    let range = Range::parse(operand::string(args, 0)?)?;
    // OPA names the first operand for the second one too.
    let Some(Value::String(other)) = args.get(1) else { return Err(operand::wrong_type(0, "string", args.get(1))) };
    Ok(Value::from(range.contains(&range_or_address(other)?)))
}

/// The pairs of indices (or keys) of which the first contains the second.
pub(super) fn contains_matches(args: &[Value]) -> Outcome {
    let side =
        |index: usize| args.get(index).map(|value| named_texts(value, index + 1)).unwrap_or_else(|| Ok(Vec::new()));
    let (ranges, others) = (side(0)?, side(1)?);
    if ranges.len().saturating_mul(others.len()) > MAX_PAIRS {
        return Err(BuiltinError::Limit(format!("would compare more than {MAX_PAIRS} pairs")));
    }
    let mut found = BTreeSet::new();
    let mut parsed: Vec<(Range, &Value)> = Vec::new();
    for (position, (text, index)) in ranges.iter().enumerate() {
        let range = Range::parse(text)?;
        for (at, (other, other_index)) in others.iter().enumerate() {
            if position == 0 {
                parsed.push((range_or_address(other)?, other_index));
            }
            if parsed.get(at).is_some_and(|(other, _)| range.contains(other)) {
                found.insert(Value::from(vec![index.clone(), other_index.clone()]));
            }
        }
    }
    Ok(Value::from(found))
}

/// Have the two ranges an address in common?
pub(super) fn intersects(args: &[Value]) -> Outcome {
    let left = Range::parse(operand::string(args, 0)?)?;
    let Some(Value::String(right)) = args.get(1) else { return Err(operand::wrong_type(0, "string", args.get(1))) };
    let right = Range::parse(right)?;
    Ok(Value::from(left.v6 == right.v6 && left.first <= right.last && right.first <= left.last))
}

/// The fewest networks that cover the same addresses.
pub(super) fn merge(args: &[Value]) -> Outcome {
    let items = args.first().and_then(operand::elements).ok_or_else(|| failed("operand must be an array"))?;
    // With what to print for a range that stays as it is: Go does not mask a bare address.
    let mut ranges: Vec<(Range, Option<String>)> = Vec::new();
    for item in items {
        let Value::String(text) = item else { return Err(failed("element must be string")) };
        match text.parse::<IpAddr>().map(number) {
            Ok((true, _)) => return Err(failed("IPv6 invalid: needs prefix length")),
            Ok((false, bits)) => {
                let prefix = class_prefix(bits);
                let v4 = address(false, bits);
                ranges.push((Range::new(v4, prefix), Some(format!("{v4}/{prefix}"))));
            }
            Err(_) => ranges.push((Range::parse(text)?, None)),
        }
    }
    ranges.sort();
    let mut merged: Vec<(Range, Option<String>)> = Vec::new();
    for (range, text) in ranges {
        match merged.last_mut() {
            Some((last, shown)) if last.v6 == range.v6 && range.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(range.last);
                *shown = None;
            }
            _ => merged.push((range, text)),
        }
    }
    let mut out = BTreeSet::new();
    for (range, text) in merged {
        match text {
            Some(text) => {
                out.insert(Value::from(text));
            }
            None => range.networks(&mut out),
        }
    }
    Ok(Value::from(out))
}

fn range_or_address(text: &str) -> Result<Range, BuiltinError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Range::new(address, if address.is_ipv6() { 128 } else { 32 })),
        Err(_) => Range::parse(text)
            .map_err(|_| failed(format!("not a valid textual representation of an IP address or CIDR: {text}"))),
    }
}

/// The text and the index, element or key of everything in an operand of `net.cidr_contains_matches`.
fn named_texts(value: &Value, operand: usize) -> Result<Vec<(&str, Value)>, BuiltinError> {
    match value {
        Value::String(only) => Ok(vec![(only, value.clone())]),
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, item)| Ok((text_of(item, operand)?, Value::from(at)))).collect()
        }
        Value::Set(items) => items.iter().map(|item| Ok((text_of(item, operand)?, item.clone()))).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, item)| Ok((text_of(item, operand)?, key.clone()))).collect()
        }
        _ => Ok(Vec::new()),
    }
}

fn text_of(value: &Value, operand: usize) -> Result<&str, BuiltinError> {
    match value {
        Value::String(text) => Ok(text),
        Value::Array(items) if !items.is_empty() => match items.iter().next() {
            Some(Value::String(text)) => Ok(text),
            other => Err(operand::wrong_type(0, "string", other)),
        },
        _ => Err(failed(format!("operand {operand}: element must be string or non-empty array"))),
    }
}

fn number(address: IpAddr) -> (bool, u128) {
    match address {
        IpAddr::V4(v4) => (false, u128::from(u32::from(v4))),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => (false, u128::from(u32::from(v4))),
            None => (true, u128::from(v6)),
        },
    }
}

fn address(v6: bool, bits: u128) -> IpAddr {
    match (v6, u32::try_from(bits)) {
        (false, Ok(bits)) => IpAddr::V4(Ipv4Addr::from(bits)),
        _ => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

/// The prefix of an IPv4 address without one: that of its class.
fn class_prefix(bits: u128) -> u32 {
    match bits >> 24 {
        0..=0x7f => 8,
        0x80..=0xbf => 16,
        _ => 24,
    }
}

/// The addresses of a host; an address is its own.
pub(super) fn lookup(args: &[Value]) -> Outcome {
    let name = operand::string(args, 0)?;
    let (address, zone) = name.split_once('%').map_or((name, ""), |(address, zone)| (address, zone));
    let own = match address.parse::<IpAddr>() {
        Ok(address) if zone.is_empty() && !name.contains('%') => Some(address.to_canonical().to_string()),
        Ok(IpAddr::V6(address)) if !zone.is_empty() => Some(format!("{address}%{zone}")),
        _ => None,
    };
    if let Some(own) = own {
        return Ok(Value::from(BTreeSet::from([Value::from(own)])));
    }
    let nobody = || failed(format!("lookup {name}: no such host"));
    if name.is_empty() || name.len() > LONGEST_NAME || name.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(nobody());
    }
    match Session::lookup(name, guard::time_left()) {
        Ok(found) => {
            let found = found.iter().map(|address| Value::from(address.to_canonical().to_string()));
            Ok(Value::from(found.collect::<BTreeSet<_>>()))
        }
        Err(HttpError::Refused(message)) => Err(BuiltinError::Refused(message)),
        Err(error @ HttpError::Deadline) => Err(BuiltinError::Limit(error.to_string())),
        Err(HttpError::Failed(message) | HttpError::Network { message, .. }) => Err(failed(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(call: fn(&[Value]) -> Outcome, args: &str) -> String {
        let args = Value::from_json_str(args).unwrap();
        let args: Vec<Value> = args.as_array().unwrap().iter().cloned().collect();
        match call(&args) {
            Ok(value) => super::super::super::json::to_opa_json(&value),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn ranges_contain_what_go_says() {
        for (args, want) in [
            (r#"["10.0.0.0/8", "10.1.0.0/24"]"#, "true"),
            (r#"["10.0.0.0/8", "10.1.2.3"]"#, "true"),
            (r#"["10.0.0.0/8", "::ffff:10.1.2.3"]"#, "true"),
            (r#"["::/0", "10.1.2.3"]"#, "false"),
            (r#"["2001:4860::/96", "2001:4860::/32"]"#, "false"),
            (r#"["10.0.0.0/33", "10.1.2.3"]"#, "invalid CIDR address: 10.0.0.0/33"),
            (r#"["10.0.0.0/8", "x"]"#, "not a valid textual representation of an IP address or CIDR: x"),
            (r#"["10.0.0.0/8", 1]"#, "operand 1 must be string but got number"),
        ] {
            assert_eq!(call(contains, args), want, "{args}");
        }
    }

    #[test]
    fn merging_gives_the_fewest_networks() {
        for (args, want) in [
            (r#"[["192.0.2.112/30", "192.0.2.116/31", "192.0.2.118/31"]]"#, r#"["192.0.2.112/29"]"#),
            (r#"[["::/0", "fe80::1/128"]]"#, r#"["::/0"]"#),
            (r#"[["0.0.0.0/1", "128.0.0.0/1"]]"#, r#"["0.0.0.0/0"]"#),
            (r#"[["192.0.2.112"]]"#, r#"["192.0.2.112/24"]"#),
            (r#"[["192.0.2.112", "192.0.2.116/31"]]"#, r#"["192.0.2.0/24"]"#),
            (
                r#"[["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]]"#,
                r#"["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]"#,
            ),
            (r#"[["::1"]]"#, "IPv6 invalid: needs prefix length"),
            (r#"[[1]]"#, "element must be string"),
        ] {
            assert_eq!(call(merge, args), want, "{args}");
        }
    }

    #[test]
    fn matches_name_indices_and_keys() {
        for (args, want) in [
            (r#"[["1.1.2.0/24", ["1.1.1.0/24", 7]], ["1.1.1.1", "1.1.2.1"]]"#, "[[0,1],[1,0]]"),
            (r#"[{"k1": "1.1.1.1/24"}, "1.1.1.128"]"#, r#"[["k1","1.1.1.128"]]"#),
            (r#"[["1.1.2.0/24"], [[]]]"#, "operand 2: element must be string or non-empty array"),
        ] {
            assert_eq!(call(contains_matches, args), want, "{args}");
        }
    }
}
