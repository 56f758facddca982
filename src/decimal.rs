//! Exact decimals from the literal text of a JSON number: never through a float, never rounded.

use ledger_verifier::decimal::{bound, one};

/// Why a text is not a value of a `NUMERIC(precision, scale)` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a number by the grammar of JSON (RFC 8259 section 6).
    #[error("is not a JSON number")]
    NotANumber,
    /// Digits would be lost: more after the point than the column keeps, or more before it
    /// than it can hold.
    #[error(
        "has more digits than the ledger keeps exactly ({integer} before the point, {fraction} after)"
    )]
    PrecisionLoss {
        /// Digits before the point that the column has.
        integer: u8,
        /// Digits after the point that the column has.
        fraction: u8,
    },
}

/// The value of a JSON number's literal text, in units of 10^-`scale`.
///
/// `1e2` is 100, `-0` is 0, and trailing zeros after the point cost nothing; what the column
/// cannot hold exactly is an error, never rounded.
pub fn parse(literal: &str, precision: u8, scale: u8) -> Result<i128, DecimalError> {
    let number = JsonNumber::parse(literal).ok_or(DecimalError::NotANumber)?;
    let loss = DecimalError::PrecisionLoss { integer: precision - scale, fraction: scale };

    let (digits, dropped_zeros) = number.significant_digits();
    if digits.is_empty() {
        return Ok(0);
    }
    // value = digits * 10^shift units
    let shift =
        number.exponent.ok_or(loss)? - count(number.fraction) + dropped_zeros + i64::from(scale);
    if shift < 0 || count(&digits) + shift > i64::from(precision) {
        return Err(loss);
    }
    let mut units = digits.iter().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    units *= one(u8::try_from(shift).map_err(|_| loss)?);
    debug_assert!(units < bound(precision));
    Ok(if number.negative { -units } else { units })
}

/// Whether `jsonb` can hold the number: PostgreSQL's `numeric` has at most 131072 digits before
/// the point and 16383 after it.
pub fn fits_jsonb(literal: &str) -> bool {
    const MAX_INTEGER_DIGITS: i64 = 131_072;
    const MAX_FRACTION_DIGITS: i64 = 16_383;
    /// Its reader takes exponents below half of the type's range, for zero too.
    const MAX_EXPONENT: i64 = i32::MAX as i64 / 2;
    let Some(number) = JsonNumber::parse(literal) else { return false };
    let Some(exponent) = number.exponent.filter(|exponent| exponent.abs() < MAX_EXPONENT) else {
        return false;
    };
    let (digits, _) = number.significant_digits();
    // Zero has no digits before the point, whatever its exponent.
    let integer_digits = if digits.is_empty() { 0 } else { count(number.integer) + exponent };
    let fraction_digits = count(number.fraction) - exponent;
    integer_digits <= MAX_INTEGER_DIGITS && fraction_digits <= MAX_FRACTION_DIGITS
}

/// The parts of a number's literal text.
struct JsonNumber<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// `None` where it is beyond any number that could be stored.
    exponent: Option<i64>,
}

impl<'a> JsonNumber<'a> {
    fn parse(literal: &'a str) -> Option<Self> {
        let rest = literal.as_bytes();
        let (negative, rest) = match rest {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, rest),
        };
        let (integer, mut rest) = split_digits(rest);
        if integer.is_empty() || (integer.len() > 1 && integer[0] == b'0') {
            return None;
        }
        let mut fraction: &[u8] = &[];
        if let [b'.', after @ ..] = rest {
            (fraction, rest) = split_digits(after);
            if fraction.is_empty() {
                return None;
            }
        }
        let mut exponent = Some(0);
        if let [b'e' | b'E', after @ ..] = rest {
            let (down, after) = match after {
                [b'-', after @ ..] => (true, after),
                [b'+', after @ ..] => (false, after),
                _ => (false, after),
            };
            let digits;
            (digits, rest) = split_digits(after);
            if digits.is_empty() {
                return None;
            }
            let magnitude = std::str::from_utf8(digits).ok()?.parse::<i32>().ok().map(i64::from);
            exponent = magnitude.map(|magnitude| if down { -magnitude } else { magnitude });
        }
        rest.is_empty().then_some(Self { negative, integer, fraction, exponent })
    }

    /// The digits without leading and trailing zeros, and how many trailing ones were dropped.
    fn significant_digits(&self) -> (Vec<u8>, i64) {
        let mut digits = [self.integer, self.fraction].concat();
        let all = count(&digits);
        let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
        digits.truncate(kept);
        let dropped = all - count(&digits);
        let leading = digits.iter().take_while(|&&digit| digit == b'0').count();
        (digits.split_off(leading), dropped)
    }
}

fn count(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

fn split_digits(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}
