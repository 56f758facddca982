//! Exact decimals: an `i128` counts units of the column's last fraction digit.
//!
//! `NUMERIC(28,10)` and `NUMERIC(28,2)` fit an `i128` with room to spare, and an integer can
//! neither round nor lose its scale.

/// The value of one, in units of 10^-`scale`.
///
/// # Panics
/// Where `scale` is above 38, which no column has.
pub const fn one(scale: u8) -> i128 {
    10_i128.pow(scale as u32)
}

/// The smallest magnitude that `NUMERIC(precision, …)` cannot hold, in units.
pub const fn bound(precision: u8) -> i128 {
    10_i128.pow(precision as u32)
}

/// Appends the canonical text: exactly `scale` fraction digits, `-` if negative, never `-0`,
/// no exponent (FORMAT.md section 2).
pub fn write(units: i128, scale: u8, out: &mut Vec<u8>) {
    if units < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(units.unsigned_abs()).as_bytes();
    let scale = usize::from(scale);
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(scale));
    out.extend_from_slice(if whole.is_empty() { b"0" } else { whole });
    if scale > 0 {
        out.push(b'.');
        out.resize(out.len() + scale - fraction.len(), b'0');
        out.extend_from_slice(fraction);
    }
}

/// The canonical text as a string; see [`write()`].
pub fn to_string(units: i128, scale: u8) -> String {
    let mut out = Vec::with_capacity(40);
    write(units, scale, &mut out);
    String::from_utf8(out).expect("decimal digits are ASCII")
}

/// Reads the canonical text of [`write()`], in units of the last of exactly `scale` fraction
/// digits; `None` for any other spelling, and beyond an `i128`.
pub fn parse(text: &str, scale: u8) -> Option<i128> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.'));
    let digits: String = text.chars().filter(|&c| c != '.').collect();
    let units = digits.parse().ok().filter(|_| plain)?;
    (to_string(units, scale) == text).then_some(units)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_exactly_the_scale() {
        for (units, scale, text) in [
            (0, 10, "0.0000000000"),
            (1, 10, "0.0000000001"),
            (-1, 2, "-0.01"),
            (-125_050, 2, "-1250.50"),
            (642_505_000_000_000, 10, "64250.5000000000"),
            (7, 0, "7"),
            (bound(28) - 1, 10, "999999999999999999.9999999999"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(to_string(units, scale), text);
            assert_eq!(parse(text, scale), Some(units));
        }
    }

    #[test]
    fn reads_one_spelling() {
        for text in [
            "",
            "-",
            ".",
            "1",
            "1.2",
            "1.234",
            "01.23",
            "+1.23",
            "-0.00",
            "1.23 ",
            "1.2e1",
            ".12",
            "1..23",
            "12.3",
            "1-.23",
            "1e400",
            "99999999999999999999999999999999999999999.00",
        ] {
            assert_eq!(parse(text, 2), None, "{text}");
        }
        assert_eq!(parse("1.23", 2), Some(123));
    }
}
