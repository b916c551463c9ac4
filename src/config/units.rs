//! Durations (`100ms`, `30s`, `5m`, `24h`, `1h30m`) and sizes (`512B`, `8KiB`, `1MiB`), as people write them. No
//! guessing: a duration needs a unit, and sizes are powers of two.

use std::time::Duration;

const DURATION_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, usize); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Parses a duration: one or more numbers, each with a unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{}` is not a duration; write one such as `30s`, `5m` or `100ms`", super::tree::shorten(text));
    if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("`{text}` has no unit; write `{text}s` or `{text}ms`"));
    }
    let mut rest = text;
    let mut total = 0u64;
    while !rest.is_empty() {
        let (number, unit);
        (number, rest) = split(rest, |c| c.is_ascii_digit());
        (unit, rest) = split(rest, |c| c.is_ascii_alphabetic());
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let (_, factor) = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        total = number.checked_mul(*factor).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total)) }
}

/// Parses a size in bytes.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("`{}` is not a size; write one such as `512B`, `8KiB` or `1MiB`", super::tree::shorten(text));
    let (number, unit) = split(text.trim(), |c| c.is_ascii_digit());
    let number: usize = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return Ok(number);
    }
    match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => number.checked_mul(*factor).ok_or_else(wrong),
        None => Err(wrong()),
    }
}

/// The shortest way to write it.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let units = DURATION_UNITS.iter().rev().find(|(_, factor)| millis >= *factor && millis.is_multiple_of(*factor));
    match units {
        Some((unit, factor)) => format!("{}{unit}", millis / factor),
        None => "0s".to_owned(),
    }
}

/// The shortest way to write it.
pub(super) fn show_size(size: usize) -> String {
    let units = SIZE_UNITS.iter().rev().find(|(_, factor)| size >= *factor && size.is_multiple_of(*factor));
    match units {
        Some((unit, factor)) => format!("{}{unit}", size / factor),
        None => "0B".to_owned(),
    }
}

fn split(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units_and_are_shown_as_people_write_them() {
        for (text, millis, shown) in [
            ("100ms", 100, "100ms"),
            ("30s", 30_000, "30s"),
            ("1500ms", 1_500, "1500ms"),
            ("5m", 300_000, "5m"),
            ("1h30m", 5_400_000, "90m"),
            ("24h", 86_400_000, "1d"),
            ("0s", 0, "0s"),
        ] {
            let parsed = parse_duration(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((parsed, show_duration(parsed).as_str()), (Duration::from_millis(millis), shown), "{text}");
        }
        for text in ["", "s", "5", "5 s", "-5s", "5x", "1.5s", "99999999999999999999s", "9999999999999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two() {
        for (text, bytes, shown) in [
            ("512", 512, "512B"),
            ("8KiB", 8_192, "8KiB"),
            ("8 KiB", 8_192, "8KiB"),
            ("1MiB", 1 << 20, "1MiB"),
            ("1536KiB", 1_536 << 10, "1536KiB"),
            ("0B", 0, "0B"),
        ] {
            let parsed = parse_size(text).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((parsed, show_size(parsed).as_str()), (bytes, shown), "{text}");
        }
        for text in ["", "KiB", "8KB", "8k", "-1", "1.5MiB", "99999999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
