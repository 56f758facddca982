// The canonical row, its hash, and the spellings of documents.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import { test } from 'node:test';

import {
  ROWS, base64, bytes as spellings, hex, refused, repository, rowOf, sha256, ui,
} from './common.mjs';

const { canonicalRow, genesis, rowHash } = ui;
const { fromBase64, toBase64 } = spellings;

const SIGNAL = rowOf(ROWS.rows[0]);
const withMember = (name, value) => ({ ...SIGNAL, [name]: value });

test('every row of the vectors has its canonical text and its hash', () => {
  assert.ok(ROWS.rows.length >= 19);
  for (const vector of ROWS.rows) {
    const row = rowOf(vector);
    assert.equal(canonicalRow(row), vector.canonical);
    assert.equal(rowHash(row), vector.row_hash);
    assert.equal(rowHash(Object.fromEntries(Object.entries(row).reverse())), vector.row_hash);
  }
  for (const [chain, hash] of Object.entries(ROWS.genesis)) assert.equal(genesis(chain), hash);
});

test('no column but documents has a name that ends as a document does', () => {
  const source = fs.readFileSync(repository('verifier/src/chain.rs'), 'utf8');
  const columns = [...source.matchAll(/(?:column|optional)\("(\w+)",\s*([\w:]+)/g)];
  assert.ok(columns.length > 70);
  for (const [, name, type] of columns) {
    assert.doesNotMatch(name, /_(text|base64|sha256)$/, `${name} of type ${type}`);
    assert.ok(!['v', 'prev_hash', 'row_hash', 'leaf_index', 'chain'].includes(name), name);
  }
});

test('strings are escaped as RFC 8785 says, whatever they hold', () => {
  const text = '<script>alert("1")</script>\u2028\u2029\u0000\b\t\n\f\r\u001f\u007f\\/é€🚀\ufeff';
  const escaped = '"<script>alert(\\"1\\")</script>\u2028\u2029\\u0000\\b\\t\\n\\f\\r\\u001f\u007f'
    + '\\\\/é€🚀\ufeff"';
  assert.ok(canonicalRow(withMember('symbol', text)).includes(`"symbol":${escaped},"v":1}`));
  const document = canonicalRow(withMember('raw_payload_text', text));
  assert.ok(document.includes(`"raw_payload_sha256":"${hex(sha256(text))}"`));
  for (const lone of ['\ud800', 'a\udc00', '\udc00\ud800', '\ud83d']) {
    for (const name of ['symbol', 'raw_payload_text', `${lone}_text`, lone, 'chain']) {
      refused(() => canonicalRow(withMember(name, lone)), name);
    }
    refused(() => genesis(lone));
  }
});

test('members are sorted by UTF-16 code units, also those no row has', () => {
  const row = { ...SIGNAL, '\ufb33': 1, '\u{1f600}': 2, '\u20ac': 3, '\r': 4, 1: 5, 'ö': 6 };
  const names = Object.keys(JSON.parse(canonicalRow(row)));
  const tail = names.slice(names.indexOf('v'));
  assert.deepEqual(tail, ['v', 'ö', '\u20ac', '\u{1f600}', '\ufb33']);
  assert.ok(canonicalRow(row).startsWith('{"\\r":4,"1":5,'));
  // Own members called like those every object inherits are hashed as any other.
  const inherited = JSON.parse('{"__proto__":{"symbol":1},"constructor":"x"}');
  refused(() => canonicalRow({ ...SIGNAL, ...inherited }));
  const text = JSON.stringify(SIGNAL).replace('{', '{"__proto__":"x",');
  assert.ok(canonicalRow(JSON.parse(text)).startsWith('{"__proto__":"x","auth_method"'));
});

test('numbers are integers below 2^53', () => {
  for (const number of [0, 7, -7, 1e3, 2 ** 53 - 1, 1 - 2 ** 53]) {
    assert.ok(canonicalRow(withMember('n', number)).includes(`"n":${BigInt(number)},`));
  }
  for (const text of ['1.5', '1e-3', '-0', '9007199254740992', '9007199254740993', '1e400']) {
    refused(() => canonicalRow(withMember('n', JSON.parse(text))), text);
  }
  for (const other of [NaN, 7n, undefined, () => 7, Symbol('7'), {}, [], [7], new Date(0)]) {
    refused(() => canonicalRow(withMember('n', other)));
  }
});

test('documents are bytes, each in one spelling', () => {
  const bytes = crypto.randomBytes(1021);
  const row = withMember('body_base64', base64(bytes));
  assert.ok(canonicalRow(row).includes(`"body_sha256":"${hex(sha256(bytes))}"`));
  const big = 'x'.repeat(1 << 20);
  assert.equal(rowHash(withMember('raw_payload_text', big)).length, 64);
  assert.ok(canonicalRow(withMember('raw_payload_text', null)).includes('_payload_sha256":null'));
  for (const wrong of [7, true, {}, [], ['x']]) {
    refused(() => canonicalRow(withMember('raw_payload_text', wrong)));
    refused(() => canonicalRow(withMember('body_base64', wrong)));
  }
  // What stands for a document that is not there, and what would be there twice.
  const { raw_payload_text: document, ...rest } = SIGNAL;
  const digest = { raw_payload_sha256: hex(sha256(document)) };
  refused(() => canonicalRow({ ...rest, ...digest }));
  refused(() => canonicalRow({ ...SIGNAL, ...digest }));
  refused(() => canonicalRow(withMember('raw_payload_base64', 'AAAA')));
  refused(() => canonicalRow(withMember('v', 1)));
});

test('base64 has one spelling', () => {
  for (let length = 0; length < 70; length += 1) {
    const bytes = crypto.randomBytes(length);
    assert.equal(toBase64(bytes), base64(bytes));
    assert.deepEqual(Buffer.from(fromBase64(base64(bytes))), bytes);
  }
  for (const text of ['A', 'AA', 'AAA', 'AB==', 'AAB=', 'AA=A', 'A===', '====', 'AAAA====', '=AAA',
    'AA==AAAA', 'AAAA\n', ' AAAA', 'AA A', 'AA-_', 'ＡAAA', 'AAAAA', null, undefined, 7, []]) {
    refused(() => fromBase64(text), String(text));
  }
});

test('a row says where it stands', () => {
  const changes = {
    chain: [undefined, null, 7, {}],
    id: ['1', 0, -1, 1.5, 2 ** 53, null, undefined],
    prev_hash: [null, '', SIGNAL.prev_hash.toUpperCase(), `${SIGNAL.prev_hash}0`, 7],
  };
  for (const [name, values] of Object.entries(changes)) {
    for (const value of values) refused(() => rowHash(withMember(name, value)), name);
  }
  for (const row of [null, undefined, 7, 'row', [], [SIGNAL]]) refused(() => canonicalRow(row));
});
