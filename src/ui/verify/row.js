// The canonical row and its hash (FORMAT.md sections 1 and 2).

import {
  VerifyError, bytesToHex, fromBase64, isObject, isRowHash, quote, sha256, utf8,
} from './bytes.js';

/** The member `v` of every canonical row. */
const FORMAT_VERSION = 1;

/** What stands in a row as JSON and is no part of the canonical row. */
const NOT_HASHED = new Set(['prev_hash', 'row_hash', 'leaf_index']);

// A document is told by its member's name alone. No other column of the seven chains has a name
// that ends so, which the tests check against the chains of the Rust verifier.
const TEXT_DOCUMENT = '_text';
const BYTES_DOCUMENT = '_base64';
const DOCUMENT_HASH = '_sha256';

/**
 * Where a row stands: what links and proofs are compared with.
 * @param {unknown} row a row as JSON
 * @returns {{chain: string, id: number, prevHash: string}} its chain, its id (from 1), and the
 *   hash that it says the row before has
 * @throws {VerifyError} where one of them is missing or malformed
 */
export function placeOf(row) {
  if (!isObject(row)) throw new VerifyError(`the row is ${quote(row)}, not an object`);
  const { chain, id, prev_hash: prevHash } = row;
  if (typeof chain !== 'string') throw new VerifyError(`the row's chain is ${quote(chain)}`);
  if (!Number.isSafeInteger(id) || id < 1) throw new VerifyError(`the row's id is ${quote(id)}`);
  if (!isRowHash(prevHash)) {
    throw new VerifyError(`the row's prev_hash is ${quote(prevHash)}, which is no row hash`);
  }
  return { chain, id, prevHash };
}

/**
 * The canonical row: one JSON object as RFC 8785 (JCS) writes it (FORMAT.md section 2).
 * @param {object} row a row as JSON, with `chain`, `id` and `prev_hash` at least
 * @returns {string} its canonical text
 * @throws {VerifyError} where the row holds what no canonical row does: a fraction, a number of
 *   2^53 or more, a list or object, a lone surrogate, base64 in another spelling, a member that is
 *   made here (`v`, a document's `…_sha256`)
 */
export function canonicalRow(row) {
  placeOf(row);
  // A map, not an object: a member called __proto__ is a member like others.
  const members = new Map([['v', String(FORMAT_VERSION)]]);
  for (const [name, value] of Object.entries(row)) {
    if (NOT_HASHED.has(name)) continue;
    const [member, text] = canonicalMember(name, value);
    if (members.has(member)) throw new VerifyError(`the row has ${quote(member)} twice`);
    members.set(member, text);
  }
  // RFC 8785 section 3.2.3: by UTF-16 code units, which is how JavaScript compares strings.
  const names = [...members.keys()].sort();
  return `{${names.map((name) => `${jsonString(name)}:${members.get(name)}`).join(',')}}`;
}

/**
 * A row's hash, computed from its columns and its `prev_hash`; its own `row_hash` is not looked at.
 * @param {object} row a row as JSON
 * @returns {string} SHA-256 over prev_hash as 64 characters and the canonical row in UTF-8, as 64
 *   lowercase hexadecimal digits (FORMAT.md section 2)
 * @throws {VerifyError} where {@link canonicalRow} does
 */
export function rowHash(row) {
  return bytesToHex(sha256(utf8(placeOf(row).prevHash + canonicalRow(row))));
}

/**
 * The `prev_hash` of a chain's first row (FORMAT.md section 1).
 * @param {string} chain the chain's name
 * @returns {string} 64 lowercase hexadecimal digits
 * @throws {VerifyError} where the name has a lone surrogate
 */
export function genesis(chain) {
  return bytesToHex(sha256(utf8(`audit-ledger/v1/${chain}`)));
}

/** The name and the JSON text of a member of the canonical row, from one of a row as JSON. */
function canonicalMember(name, value) {
  // Taken as it is, it would stand for a document that nobody was shown.
  if (name.endsWith(DOCUMENT_HASH)) {
    throw new VerifyError(`the row has ${quote(name)} where its document should be`);
  }
  const suffix = [TEXT_DOCUMENT, BYTES_DOCUMENT].find((end) => name.endsWith(end));
  if (suffix === undefined) return [name, canonicalValue(name, value)];
  const member = name.slice(0, -suffix.length) + DOCUMENT_HASH;
  if (value === null) return [member, 'null'];
  if (typeof value !== 'string') {
    throw new VerifyError(`${quote(name)} is ${quote(value)}, not a document`);
  }
  const bytes = suffix === BYTES_DOCUMENT ? fromBase64(value) : utf8(value);
  return [member, jsonString(bytesToHex(sha256(bytes)))];
}

function canonicalValue(name, value) {
  if (value === null || typeof value === 'boolean') return String(value);
  if (typeof value === 'string') return jsonString(value);
  if (typeof value !== 'number') {
    throw new VerifyError(`${quote(name)} is ${quote(value)}, which no column holds`);
  }
  // RFC 8785 section 3.2.2.3, of which a canonical row uses the integers below 2^53 alone. Beyond
  // them JavaScript rounds, so what was sent may be another number. -0 is no integer's spelling.
  if (!Number.isSafeInteger(value) || Object.is(value, -0)) {
    throw new VerifyError(`${quote(name)} is ${value}, not an integer below 2^53`);
  }
  return String(value);
}

/** RFC 8785 section 3.2.2.2, which takes over how ECMAScript escapes a well-formed string. */
function jsonString(text) {
  utf8(text); // Refuses lone surrogates: JSON.stringify writes them as escapes.
  return JSON.stringify(text);
}
