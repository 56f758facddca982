//! What the fuzz targets reach besides what is public: no part of the interface.

use crate::http::page;
use crate::integrity::anchors::{file, timestamp};

/// The cursor behind an item of this list.
pub fn write_cursor(list: &str, place: i64) -> String {
    page::write_cursor(list, place)
}

/// The place of an item of this list, read from its cursor.
pub fn read_cursor(list: &str, cursor: &str) -> Option<i64> {
    page::read_cursor(list, cursor)
}

/// The address of the page behind the one at this address of a list without filters, where that can
/// be read; empty where the answer has no link to it.
pub fn next_page(address: &str) -> Option<String> {
    page::next_page(address)
}

/// Whether an authority's response is a timestamp of this note, asked for with this nonce.
pub fn require_granted(response: &[u8], note: &[u8], nonce: [u8; 8]) -> Result<(), String> {
    timestamp::require_granted(response, &timestamp::imprint(note), nonce)
}

/// The notes in an anchor's file, with nothing where one was torn; fails where one is too large.
pub fn kept_notes(file: &[u8]) -> std::io::Result<Vec<Option<Vec<u8>>>> {
    let note = |record| match record {
        file::Record::Note(note) => Some(note),
        file::Record::Torn => None,
    };
    file::Records(file).map(|record| record.map(note)).collect()
}
