// What the tests of the dashboard's verification share: the code under test, vectors, rows, a tree
// and keys that are made by other means.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import module from 'node:module';

// Browsers load the dashboard's files as modules because a page says so; an older node wants to be
// told. Newer ones, which have registerHooks, look into the file.
if (!module.registerHooks) {
  const load = `export const load = (url, context, next) => next(url, url.includes('/src/ui/')
    ? { ...context, format: 'module' } : context);`;
  module.register(`data:text/javascript,${encodeURIComponent(load)}`);
}
export const ui = await import('../../../src/ui/verify.js');
export const bytes = await import('../../../src/ui/verify/bytes.js');
export const ed25519 = await import('../../../src/ui/vendor/noble-ed25519-3.2.0/index.js');

export const repository = (path) => new URL(`../../../${path}`, import.meta.url);
const vectors = (name) => {
  return JSON.parse(fs.readFileSync(repository(`verifier/tests/vectors/${name}.json`)));
};
export const [ROWS, MERKLE, CHECKPOINTS] = ['rows', 'merkle', 'checkpoints'].map(vectors);

export const refused = (action, what) => assert.throws(action, ui.VerifyError, what);
export const base64 = (data) => Buffer.from(data).toString('base64');
export const hex = (data) => Buffer.from(data).toString('hex');

/** A copy of a text or list with something else from a place on. */
export function spliced(whole, at, remove, ...add) {
  const put = typeof whole === 'string' ? add.join('') : add;
  return whole.slice(0, at).concat(put, whole.slice(at + remove));
}

/** SHA-256 of what is given, one after the other; by OpenSSL. */
export function sha256(...parts) {
  const sha = crypto.createHash('sha256');
  for (const part of parts) sha.update(typeof part === 'string' ? part : Buffer.from(part));
  return sha.digest();
}

/** A row as JSON (FORMAT.md section 2) from a vector. */
export function rowOf({ columns, prev_hash, canonical, row_hash }, leaf_index = null) {
  const { v, ...members } = JSON.parse(canonical);
  const row = {};
  for (const [name, value] of Object.entries(members)) {
    const column = name.replace(/_sha256$/, '');
    const document = columns[column];
    if (column === name) row[name] = value;
    else if (document?.startsWith('base64:')) row[`${column}_base64`] = document.slice(7);
    else row[`${column}_text`] = document;
  }
  return { ...row, prev_hash, row_hash, leaf_index };
}

/** MTH of RFC 9162 section 2.1.1, over hashes of leaves, as it is defined. */
export function treeHash(leaves) {
  if (leaves.length === 1) return leaves[0];
  const k = 2 ** Math.ceil(Math.log2(leaves.length) - 1);
  return sha256([1], treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)));
}

/** PATH of RFC 9162 section 2.1.3.1, as it is defined. */
export function path(m, leaves) {
  if (leaves.length === 1) return [];
  const k = 2 ** Math.ceil(Math.log2(leaves.length) - 1);
  return m < k
    ? [...path(m, leaves.slice(0, k)), treeHash(leaves.slice(k))]
    : [...path(m - k, leaves.slice(k)), treeHash(leaves.slice(0, k))];
}

export const SEED = Buffer.alloc(32, 0x5a);
export const EXAMPLE = 'example.com/log';

/** A key made by OpenSSL: its vkey, and a signature line over a text. */
export function keyOf(name, seed = SEED) {
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const secret = crypto.createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const spki = crypto.createPublicKey(secret).export({ format: 'der', type: 'spki' });
  const publicKey = spki.subarray(-32);
  const { vkey, line } = vkeyOf(name, publicKey);
  const sign = (text) => crypto.sign(null, Buffer.from(text), secret);
  return { name, publicKey, vkey, line: (text) => line(sign(text)) };
}

/** The same of a public key alone: a signature line with any bytes. */
export function vkeyOf(name, publicKey, algorithm = 1) {
  const id = sha256(`${name}\n`, [algorithm], publicKey).subarray(0, 4);
  const vkey = `${name}+${hex(id)}+${base64([algorithm, ...publicKey])}`;
  const line = (bytes) => `\u2014 ${name} ${base64(Buffer.concat([id, bytes]))}\n`;
  return { vkey, line };
}

export const ROOT = CHECKPOINTS.checkpoints[0].root;
export const textOf = (origin, size = 20, root = ROOT) => `${origin}\n${size}\n${root}\n`;
export const signed = (text, ...keys) => `${text}\n${keys.map((key) => key.line(text)).join('')}`;
export const names = (keys) => keys.map((key) => key.name);
