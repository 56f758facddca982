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
    let scale = usize::from(scale);
    // 39 digits hold any i128, 40 with the zero before the point.
    let mut digits = [b'0'; 40];
    let mut rest = units.unsigned_abs();
    let mut start = digits.len();
    while rest > 0 || digits.len() - start <= scale {
        start -= 1;
        digits[start] = b'0' + u8::try_from(rest % 10).expect("a remainder of ten");
        rest /= 10;
    }
    let point = digits.len() - scale;
    out.extend_from_slice(&digits[start..point]);
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// The canonical text as a string; see [`write()`].
pub fn to_string(units: i128, scale: u8) -> String {
    let mut out = Vec::with_capacity(40);
    write(units, scale, &mut out);
    String::from_utf8(out).expect("decimal digits are ASCII")
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
        }
    }
}
