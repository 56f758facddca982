// Checkpoints, the notes they stand in, and the keys that sign them (FORMAT.md section 4, C2SP
// signed-note and tlog-checkpoint).

import * as ed25519 from '../vendor/noble-ed25519-3.2.0/index.js';
import { sha512 } from '../vendor/noble-hashes-2.4.0/sha2.js';
import {
  VerifyError, bytesToHex, concatBytes, fromBase64, quote, sha256, utf8,
} from './bytes.js';
import { TREE_HASH_BYTES } from './merkle.js';

// The package asks WebCrypto unless it is given another SHA-512; see bytes.js.
ed25519.hashes.sha512 = sha512;

/** The largest note that is read, in bytes of UTF-8, signatures included; as Go's note package. */
export const MAX_NOTE_BYTES = 1_000_000;

/** The most signatures on one note; as Go's note package. */
export const MAX_SIGNATURES = 100;

/** `name+id+key`: the base64 of the key may contain pluses, name and id may not. */
const VKEY = /^([^+]*)\+([0-9a-f]{8})\+([^]*)$/;

/** The longest verifier key that is read, in characters; its name is a log's origin. */
const MAX_VKEY_CHARS = 10_000;

/** The signature type of Ed25519 (C2SP signed-note, "Signature types"). */
const ALGORITHM_ED25519 = 0x01;

const KEY_ID_BYTES = 4;
const PUBLIC_KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/** Begins a signature line: an em dash (U+2014) and a space. */
const SIGNATURE_PREFIX = '\u2014 ';

/** Not in a key's name: Unicode spaces, a plus, control characters (C2SP signed-note, "Format"). */
const NOT_IN_KEY_NAME = /[\p{White_Space}+\u0000-\u001f]/u;

/** Control characters but the newline. */
const CONTROL = /[\u0000-\u0009\u000b-\u001f]/;

/**
 * @typedef {object} Vkey a verifier key: an Ed25519 public key and its name
 * @property {string} text the key as it was given
 * @property {string} name its name; for a log its origin
 * @property {string} keyId eight lowercase hexadecimal digits
 * @property {Uint8Array} publicKey 32 bytes (RFC 8032)
 */

/**
 * Reads a verifier key: `name+id+base64(0x01 ‖ public key)` (C2SP signed-note, "Verifier keys").
 * @param {unknown} text the key
 * @returns {Vkey} its parts
 * @throws {VerifyError} where it is spelt otherwise, is not of Ed25519, is no point of the curve or
 *   one of small order, which fits any signature, or where its id is not that of its name and key
 */
export function parseVkey(text) {
  const malformed = () => new VerifyError(`${quote(text)} is no verifier key: name+id+key`);
  if (typeof text !== 'string' || text.length > MAX_VKEY_CHARS) throw malformed();
  const [, name, keyId, base64] = VKEY.exec(text) ?? [];
  if (name === undefined || !isKeyName(name)) throw malformed();
  const key = fromBase64(base64);
  if (key[0] !== ALGORITHM_ED25519) throw new VerifyError('the verifier key is not of Ed25519');
  const publicKey = key.slice(1);
  if (!isUsable(publicKey)) throw new VerifyError('the verifier key is no usable Ed25519 key');
  // The first bytes of SHA-256(name ‖ 0x0A ‖ algorithm ‖ public key).
  const digest = sha256(concatBytes(utf8(`${name}\n`), key));
  const expected = bytesToHex(digest.subarray(0, KEY_ID_BYTES));
  if (keyId !== expected) {
    throw new VerifyError(`the verifier key's id is ${keyId}, its name and key make ${expected}`);
  }
  return { text, name, keyId, publicKey };
}

function isKeyName(name) {
  return name !== '' && !NOT_IN_KEY_NAME.test(name);
}

function isUsable(publicKey) {
  if (publicKey.length !== PUBLIC_KEY_BYTES) return false;
  try {
    return !ed25519.Point.fromBytes(publicKey, false).isSmallOrder();
  } catch {
    return false; // Not a point of the curve in its one spelling.
  }
}

/**
 * @typedef {object} NoteSignature a signature line, which says nothing before it is verified
 * @property {string} name the name of the key that is said to have signed
 * @property {string} keyId that key's id
 * @property {Uint8Array} signature in the form of the key's signature type, never empty
 */

/**
 * Reads a signed note (C2SP signed-note, "Format"). Nothing in it may be believed before
 * {@link verifyNote}.
 * @param {unknown} note the note, signatures included
 * @returns {{text: string, signatures: NoteSignature[]}} what is signed, with its last newline, and
 *   the signature lines in their order
 * @throws {VerifyError} where it is malformed or breaks a bound
 */
export function parseNote(note) {
  if (typeof note !== 'string') throw new VerifyError(`the note is ${quote(note)}, not a text`);
  if (note.length > MAX_NOTE_BYTES || utf8(note).length > MAX_NOTE_BYTES) {
    throw new VerifyError(`the note is larger than ${MAX_NOTE_BYTES} bytes`);
  }
  if (CONTROL.test(note)) throw new VerifyError('the note has a control character');
  if (!note.endsWith('\n')) throw new VerifyError('the note does not end with a newline');
  // The text may have blank lines; the last one separates it from the signatures.
  const blank = note.lastIndexOf('\n\n');
  const lines = blank < 0 ? [] : note.slice(blank + 2).split('\n').slice(0, -1);
  if (lines.length === 0) throw new VerifyError('the note has no signatures');
  if (lines.length > MAX_SIGNATURES) {
    throw new VerifyError(`the note has more than ${MAX_SIGNATURES} signatures`);
  }
  // Nobody signs twice. A signature has one spelling, so two that are equal are equal lines.
  if (new Set(lines).size < lines.length) throw new VerifyError('the note has a signature twice');
  return { text: note.slice(0, blank + 1), signatures: lines.map(parseSignatureLine) };
}

/** `— name base64(key id ‖ signature)`. */
function parseSignatureLine(line, at) {
  const malformed = () => new VerifyError(`line ${at + 1} of the note's signatures is malformed`);
  if (!line.startsWith(SIGNATURE_PREFIX)) throw malformed();
  const rest = line.slice(SIGNATURE_PREFIX.length);
  const space = rest.indexOf(' ');
  const name = rest.slice(0, Math.max(space, 0));
  if (!isKeyName(name)) throw malformed();
  const bytes = fromBase64(rest.slice(space + 1));
  if (bytes.length <= KEY_ID_BYTES) throw malformed();
  const keyId = bytesToHex(bytes.subarray(0, KEY_ID_BYTES));
  return { name, keyId, signature: bytes.subarray(KEY_ID_BYTES) };
}

/**
 * @typedef {object} Checkpoint what a checkpoint says
 * @property {string} origin which log it is of; also the name of the key that signs
 * @property {number} treeSize how many leaves the log has, below 2^53
 * @property {string} rootHash the root hash over them, base64 of 32 bytes in its one spelling
 * @property {string[]} extensions further lines; none in this program's own checkpoints
 */

/**
 * Reads a signed checkpoint (C2SP tlog-checkpoint, "Note text"). Nothing in it may be believed
 * before {@link verifyNote}.
 * @param {unknown} note the note, signatures included
 * @returns {Checkpoint} what it says
 * @throws {VerifyError} where the note is malformed, or its text is no checkpoint
 */
export function parseCheckpoint(note) {
  const lines = parseNote(note).text.split('\n').slice(0, -1);
  if (lines.length < 3 || lines.includes('')) {
    throw new VerifyError('a checkpoint has at least three lines and none is empty');
  }
  const [origin, size, rootHash, ...extensions] = lines;
  const treeSize = Number(size);
  // The format allows sizes up to 2^64; JavaScript counts exactly up to 2^53.
  if (!/^(0|[1-9][0-9]*)$/.test(size) || !Number.isSafeInteger(treeSize)) {
    throw new VerifyError(`the checkpoint's tree size is ${quote(size)}, no number below 2^53`);
  }
  if (fromBase64(rootHash).length !== TREE_HASH_BYTES) {
    throw new VerifyError(`the checkpoint's root hash is not of ${TREE_HASH_BYTES} bytes`);
  }
  return { origin, treeSize, rootHash, extensions };
}

/**
 * Which of the trusted keys signed a note (C2SP signed-note, "Signatures"). Signatures of other
 * keys are ignored. A wrong signature of a trusted key is an error even beside a right one.
 * @param {unknown} note the note, signatures included
 * @param {string[]} vkeys the verifier keys that are trusted
 * @returns {Vkey[]} the keys that signed, each once, in the order of their signatures; never empty
 * @throws {VerifyError} where the note or a key is malformed, a trusted key's signature is wrong,
 *   two trusted keys share a name and an id, or no trusted key signed
 */
export function verifyNote(note, vkeys) {
  const { text, signatures } = parseNote(note);
  const trusted = new Map(vkeys.map((vkey) => [vkey, parseVkey(vkey)]));
  const signers = new Set();
  for (const { name, keyId, signature } of signatures) {
    const made = [...trusted.values()].filter((key) => key.name === name && key.keyId === keyId);
    if (made.length === 0) continue;
    const which = `${quote(name)} with key id ${keyId}`;
    if (made.length > 1) throw new VerifyError(`two of the verifier keys are ${which}`);
    if (!isSignature(signature, utf8(text), made[0].publicKey)) {
      throw new VerifyError(`the signature of ${which} does not fit the note`);
    }
    signers.add(made[0]);
  }
  if (signers.size === 0) throw new VerifyError('no trusted verifier key signed the note');
  return [...signers];
}

/**
 * RFC 8032 section 5.1.7, strictly, so that a signature has one spelling: S below the group's
 * order, points in their canonical form, none of small order, the equation without the cofactor.
 */
function isSignature(signature, message, publicKey) {
  if (signature.length !== SIGNATURE_BYTES) return false;
  // All of that but two things: here R may be of small order, and the cofactor is in the equation.
  if (!ed25519.verify(signature, message, publicKey, { zip215: false })) return false;
  const { Point } = ed25519;
  const order = Point.CURVE().n;
  const [r, s] = [signature.subarray(0, 32), signature.subarray(32)];
  const [R, A] = [Point.fromBytes(r, false), Point.fromBytes(publicKey, false)];
  const k = littleEndian(sha512(concatBytes(r, publicKey, message))) % order;
  const right = R.add(A.multiply(k, false));
  // S·B = R + k·A
  return !R.isSmallOrder() && Point.BASE.multiply(littleEndian(s), false).equals(right);
}

function littleEndian(bytes) {
  return BigInt(`0x${bytesToHex(Uint8Array.from(bytes).reverse())}`);
}
