//! Rows as a table for people (RFC 4180). It says the same as the rows as JSON, and is made from
//! them in one way, so that a table beside them can be checked byte for byte.

use crate::chain::Chain;
use crate::check::StoredRow;
use crate::hash::LeafIndex;
use crate::row::{Value, write_plain};

/// Appends the names of the columns.
pub fn write_header(chain: &Chain, out: &mut Vec<u8>) {
    for column in chain.columns {
        out.extend_from_slice(column.json_name().as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"prev_hash,row_hash,leaf_index\r\n");
}

/// Appends a row. A text that a spreadsheet would run as a formula has `'` before it.
pub fn write_row(
    chain: &Chain,
    row: &StoredRow<'_>,
    leaf_index: Option<LeafIndex>,
    out: &mut Vec<u8>,
) {
    for (column, value) in chain.columns.iter().zip(row.values) {
        let start = out.len();
        write_plain(column, value, out);
        let is_text = matches!(value, Value::Text(_) | Value::Document(_) | Value::Bytes(_));
        finish_cell(out, start, is_text);
        out.push(b',');
    }
    for hash in [row.prev_hash, row.row_hash] {
        out.extend_from_slice(String::from_utf8_lossy(hash).as_bytes());
        out.push(b',');
    }
    if let Some(leaf) = leaf_index {
        out.extend_from_slice(leaf.to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Makes what was written since `start` a cell (RFC 4180 section 2). A spreadsheet takes a text
/// that begins with one of `= + - @`, tab or carriage return for a formula: such a text gets `'`
/// before it, numbers do not. A text of no characters is quoted, so that it is not NULL.
fn finish_cell(out: &mut Vec<u8>, start: usize, is_text: bool) {
    let cell = &out[start..];
    let is_formula =
        is_text && matches!(cell.first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r'));
    let is_quoted = cell.iter().any(|byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'))
        || is_text && cell.is_empty();
    if !is_formula && !is_quoted {
        return;
    }
    let cell = out.split_off(start);
    if is_quoted {
        out.push(b'"');
    }
    if is_formula {
        out.push(b'\'');
    }
    for byte in cell {
        if byte == b'"' && is_quoted {
            out.push(b'"');
        }
        out.push(byte);
    }
    if is_quoted {
        out.push(b'"');
    }
}
