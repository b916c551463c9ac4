//! Fractions as OPA computes with them: binary numbers of 64 bits, rounded to nearest, ties to even, after every
//! operation (Go's `big.Float` with its default precision). The engine keeps a result as an integer, or in 53 bits.

use num_bigint::{BigInt, BigUint, Sign};
use regorus::Value;

/// Bits of a number.
const PRECISION: u64 = 64;
/// Largest decimal exponent that is read: far more than any number of the engine has.
const MAX_EXPONENT: i64 = 5_000;
/// Longest integer that is computed with: to write one costs the square of its length.
const MAX_BITS: u64 = 1 << 17;

/// `mantissa × 2^exponent`.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Float {
    mantissa: BigInt,
    exponent: i64,
}

// === impl Float ===

impl Float {
    /// A number of the engine's; `None` when it is too long.
    pub(in crate::policy) fn of(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        match number.as_big() {
            Some(whole) if whole.bits() > MAX_BITS => None,
            _ => Self::parse(&value.to_string()),
        }
    }

    /// Reads a JSON number.
    pub(in crate::policy) fn parse(text: &str) -> Option<Self> {
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let number: BigInt = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        if exponent.abs() > MAX_EXPONENT {
            return None;
        }
        let power = BigUint::from(10_u8).pow(u32::try_from(exponent.unsigned_abs()).ok()?);
        let (sign, number) = number.into_parts();
        match exponent {
            0.. => Self::rounded(sign, number * power, &BigUint::from(1_u8), 0),
            _ => Self::rounded(sign, number, &power, 0),
        }
    }

    pub(in crate::policy) fn add(&self, other: &Self) -> Option<Self> {
        let low = self.exponent.min(other.exponent);
        let shifted = |number: &Self| Some(&number.mantissa << u64::try_from(number.exponent - low).ok()?);
        let (sign, sum) = (shifted(self)? + shifted(other)?).into_parts();
        Self::rounded(sign, sum, &BigUint::from(1_u8), low)
    }

    pub(in crate::policy) fn sub(&self, other: &Self) -> Option<Self> {
        self.add(&Self { mantissa: -&other.mantissa, exponent: other.exponent })
    }

    pub(in crate::policy) fn mul(&self, other: &Self) -> Option<Self> {
        let (sign, product) = (&self.mantissa * &other.mantissa).into_parts();
        Self::rounded(sign, product, &BigUint::from(1_u8), self.exponent.checked_add(other.exponent)?)
    }

    pub(in crate::policy) fn div(&self, other: &Self) -> Option<Self> {
        let sign = if self.mantissa.sign() == other.mantissa.sign() { Sign::Plus } else { Sign::Minus };
        let exponent = self.exponent.checked_sub(other.exponent)?;
        match other.mantissa.sign() {
            Sign::NoSign => None,
            _ => Self::rounded(sign, self.mantissa.magnitude().clone(), other.mantissa.magnitude(), exponent),
        }
    }

    /// The nearest number of 64 bits to `number / divisor × 2^exponent`.
    fn rounded(sign: Sign, number: BigUint, divisor: &BigUint, exponent: i64) -> Option<Self> {
        if number == BigUint::ZERO {
            return Some(Self { mantissa: BigInt::ZERO, exponent: 0 });
        }
        // Two bits more than are kept, and one that tells of all the others.
        let have = i64::try_from(number.bits()).ok()? - i64::try_from(divisor.bits()).ok()?;
        let shift = i64::try_from(PRECISION).ok()? + 2 - have;
        let up = u64::try_from(shift).unwrap_or(0);
        let down = u64::try_from(-shift).unwrap_or(0);
        let (scaled, divisor) = (number << up, divisor << down);
        let quotient = &scaled / &divisor;
        let sticky = &quotient * &divisor != scaled;
        let mut exponent = exponent.checked_sub(shift)?;
        let extra = quotient.bits().checked_sub(PRECISION)?;
        let half = BigUint::from(1_u8) << extra.checked_sub(1)?;
        let mut kept = &quotient >> extra;
        let rest = &quotient - (&kept << extra);
        let up = rest > half || rest == half && (sticky || kept.bit(0));
        if up {
            kept += 1_u8;
        }
        exponent = exponent.checked_add(i64::try_from(extra).ok()?)?;
        Some(Self { mantissa: BigInt::from_biguint(sign, kept), exponent })
    }

    /// For the engine: an integer when it is one, otherwise the nearest number of 53 bits.
    pub(in crate::policy) fn value(&self) -> Option<Value> {
        let zeros = self.mantissa.trailing_zeros().and_then(|zeros| i64::try_from(zeros).ok());
        let Some(zeros) = zeros else { return Some(Value::from(0)) };
        if self.exponent > i64::try_from(MAX_BITS).ok()? {
            return None;
        }
        if self.exponent >= 0 {
            let whole = &self.mantissa << u64::try_from(self.exponent).ok()?;
            return Value::from_numeric_string(&whole.to_string()).ok();
        }
        if zeros >= -self.exponent {
            let whole = &self.mantissa >> u64::try_from(-self.exponent).ok()?;
            return Value::from_numeric_string(&whole.to_string()).ok();
        }
        // 53 bits by the same rule; scaled in two steps, as the power alone may be too small for a number.
        let magnitude = self.mantissa.magnitude();
        let digits: u64 = magnitude.try_into().ok()?;
        #[expect(clippy::cast_precision_loss, reason = "rounds to the nearest number, which is what is wanted")]
        let nearest = digits as f64;
        let first = i32::try_from(self.exponent / 2).ok()?;
        let second = i32::try_from(self.exponent - i64::from(first)).ok()?;
        let number = nearest * 2_f64.powi(first) * 2_f64.powi(second);
        Some(Value::from(if self.mantissa.sign() == Sign::Minus { -number } else { number }))
    }
}
