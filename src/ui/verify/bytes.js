// Spellings of bytes, and the hash that everything here is made of.

// Not WebCrypto: browsers have `crypto.subtle` in secure contexts only (https or localhost), and
// desks open the dashboard over plain http in their own networks.
import { sha256 } from '../vendor/noble-hashes-2.4.0/sha2.js';
import { bytesToHex, concatBytes } from '../vendor/noble-hashes-2.4.0/utils.js';

export { bytesToHex, concatBytes, sha256 };

/** A row, proof, note or key is not what it has to be. The message is for people. */
export class VerifyError extends Error {}

/** Characters of a wrong value that a message repeats. */
const MAX_QUOTED_CHARS = 80;

/**
 * A value as a message shows it. What comes from a server may be of any size and depth, so objects
 * are not spelt out and texts are cut.
 * @param {unknown} value anything
 * @returns {string} the value, or what kind it is of
 */
export function quote(value) {
  if (typeof value === 'string') {
    const cut = value.length > MAX_QUOTED_CHARS;
    return JSON.stringify(cut ? `${value.slice(0, MAX_QUOTED_CHARS)}…` : value);
  }
  if (Array.isArray(value)) return 'a list';
  if (value === undefined) return 'missing';
  return value !== null && typeof value === 'object' ? 'an object' : String(value);
}

/**
 * @param {unknown} value anything
 * @returns {boolean} whether it is an object with members: no list, no null
 */
export function isObject(value) {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/**
 * Half of a surrogate pair stands for no character and has no UTF-8; `TextEncoder` would put
 * U+FFFD in its place, and another text would be hashed than the one that is shown.
 */
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * @param {string} text any text
 * @returns {Uint8Array} its UTF-8
 * @throws {VerifyError} where the text has a lone surrogate
 */
export function utf8(text) {
  if (LONE_SURROGATE.test(text)) throw new VerifyError('a text has half of a character in it');
  return new TextEncoder().encode(text);
}

/** A row hash has one spelling: 64 lowercase hexadecimal digits (FORMAT.md section 1). */
const ROW_HASH = /^[0-9a-f]{64}$/;

/**
 * @param {unknown} value anything
 * @returns {boolean} whether it is a row hash in its one spelling
 */
export function isRowHash(value) {
  return typeof value === 'string' && ROW_HASH.test(value);
}

/**
 * @param {string} digits a row hash
 * @returns {Uint8Array} its 32 bytes
 * @throws {VerifyError} for any other spelling, upper case included
 */
export function rowHashBytes(digits) {
  if (!isRowHash(digits)) throw new VerifyError(`${quote(digits)} is no row hash`);
  return Uint8Array.from({ length: 32 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const SEXTET_OF = new Map([...BASE64].map((digit, sextet) => [digit, sextet]));

/**
 * @param {Uint8Array} bytes any bytes
 * @returns {string} standard base64 with padding (RFC 4648 section 4)
 */
export function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 3) {
    const [a, b = 0, c = 0] = bytes.subarray(at, at + 3);
    const sextets = [a >> 2, ((a & 3) << 4) | (b >> 4), ((b & 15) << 2) | (c >> 6), c & 63];
    const used = Math.min(bytes.length - at, 3) + 1;
    text += sextets.map((sextet, place) => (place < used ? BASE64[sextet] : '=')).join('');
  }
  return text;
}

/**
 * Reads standard base64 in its one spelling (RFC 4648 sections 3.5 and 4): padded, no white space,
 * and the bits that carry no data are zero. `atob` takes other spellings, too.
 * @param {unknown} text the base64
 * @returns {Uint8Array} the bytes
 * @throws {VerifyError} for anything else
 */
export function fromBase64(text) {
  const refused = () => new VerifyError(`${quote(text)} is not base64 in its one spelling`);
  if (typeof text !== 'string' || text.length % 4 !== 0) throw refused();
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let [bits, held, length] = [0, 0, 0];
  for (let at = 0; at < text.length - padding; at += 1) {
    const sextet = SEXTET_OF.get(text[at]);
    if (sextet === undefined) throw refused();
    bits = (bits << 6) | sextet;
    held += 6;
    if (held >= 8) {
      held -= 8;
      bytes[length] = bits >> held;
      length += 1;
      bits &= (1 << held) - 1;
    }
  }
  if (bits !== 0) throw refused();
  return bytes;
}
