//! The spellings of FORMAT.md section 2: strings, times and addresses, as PostgreSQL prints
//! them and RFC 8785 wants them.

use std::net::{IpAddr, Ipv6Addr};

/// Appends `text` as a JSON string (RFC 8785 section 3.2.2.2): the short escapes where there
/// are some, `\u00xx` for other controls, everything else as it is.
pub(crate) fn write_json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(hex::encode([control]).as_bytes());
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The first instant that is not hashable: 10000-01-01, in microseconds since 1970.
pub(crate) const END_OF_TIME_MICROS: i64 = 2_932_897 * MICROS_PER_DAY;

/// Appends `YYYY-MM-DDTHH:MM:SS.ffffffZ` for an instant in [1970, 10000), in microseconds.
pub(crate) fn write_timestamp(micros: i64, out: &mut Vec<u8>) {
    debug_assert!((0..END_OF_TIME_MICROS).contains(&micros));
    // Days since 0000-03-01, so that a leap day ends its year; eras of 400 years.
    let days = micros / MICROS_PER_DAY + 719_468;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + days / 146_097 * 400 + i64::from(month <= 2);
    let time = micros % MICROS_PER_DAY;

    let mut spelt = *b"0000-00-00T00:00:00.000000Z";
    write_padded(year, &mut spelt[..4]);
    write_padded(month, &mut spelt[5..7]);
    write_padded(day, &mut spelt[8..10]);
    write_padded(time / 3_600_000_000, &mut spelt[11..13]);
    write_padded(time / 60_000_000 % 60, &mut spelt[14..16]);
    write_padded(time / 1_000_000 % 60, &mut spelt[17..19]);
    write_padded(time % 1_000_000, &mut spelt[20..26]);
    out.extend_from_slice(&spelt);
}

/// Reads what [`write_timestamp`] writes, in microseconds since 1970; `None` for any other
/// spelling, and for a day or time that there is not.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    if text.len() != "0000-00-00T00:00:00.000000Z".len() {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Years that begin in March, so that a leap day ends one; day 0 is 0000-03-01.
    let (march_year, march_month) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let days = march_year * 365 + march_year.div_euclid(4) - march_year.div_euclid(100)
        + march_year.div_euclid(400)
        + day_of_year;
    let seconds = (number(11, 13)? * 60 + number(14, 16)?) * 60 + number(17, 19)?;
    let micros = (days - 719_468) * MICROS_PER_DAY + seconds * 1_000_000 + number(20, 26)?;
    if !(0..END_OF_TIME_MICROS).contains(&micros) {
        return None;
    }
    let mut written = Vec::new();
    write_timestamp(micros, &mut written);
    (written == text.as_bytes()).then_some(micros)
}

fn write_padded(number: i64, digits: &mut [u8]) {
    let mut rest = u32::try_from(number).expect("a part of a date or time");
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).expect("a decimal digit");
        rest /= 10;
    }
}

/// Appends the address as PostgreSQL's `host()` prints it.
pub(crate) fn write_host(address: IpAddr, out: &mut Vec<u8>) {
    let text = match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => host_v6(v6),
    };
    out.extend_from_slice(text.as_bytes());
}

/// PostgreSQL writes the last 32 bits as dotted decimal for `::a.b.c.d` where exactly six
/// groups are zero, and for `::ffff:a.b.c.d`; Rust's `Display` has only the latter.
fn host_v6(address: Ipv6Addr) -> String {
    let groups = address.segments();
    let [.., high, low] = groups;
    if groups[..6] == [0; 6] && high != 0 {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        return format!("::{a}.{b}.{c}.{d}");
    }
    address.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back() {
        let mut step = 1;
        let mut micros = 0;
        while micros < END_OF_TIME_MICROS {
            let mut written = Vec::new();
            write_timestamp(micros, &mut written);
            let text = String::from_utf8(written).unwrap();
            assert_eq!(parse_timestamp(&text), Some(micros), "{text}");
            step = step % 1_000_003 * 48_271 % 1_000_003;
            micros += step * 123_457_891;
        }
        for text in [
            "",
            "2026-02-29T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-04-31T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T00:60:00.000000Z",
            "2026-01-01T00:00:60.000000Z",
            "2026-01-01T00:00:00.00000Z",
            "2026-01-01T00:00:00.000000z",
            "2026-01-01 00:00:00.000000Z",
            "1969-12-31T23:59:59.999999Z",
            "+026-01-01T00:00:00.000000Z",
            "2026-01-01T00:00:00.-00001Z",
            "2026-1\u{e9}1T00:00:00.000000Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        let last = "9999-12-31T23:59:59.999999Z";
        assert_eq!(parse_timestamp(last), Some(END_OF_TIME_MICROS - 1));
    }
}
