// Verifier keys, signed notes and checkpoints.

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { test } from 'node:test';

import {
  CHECKPOINTS, EXAMPLE, ROOT, SEED, ed25519, hex, keyOf, names, refused, sha256, signed, spliced,
  textOf, ui, vkeyOf,
} from './common.mjs';

const { VerifyError, parseCheckpoint, parseVkey, verifyNote } = ui;

const ORDER = ed25519.Point.CURVE().n;

/** SHA-256 of `key` and one of these is a public key, and both have one key id as EXAMPLE's. */
const TWINS = [44232, 76590];

test('checkpoints of the vectors', () => {
  const { vkey, origin, checkpoints, seed_hex: seed } = CHECKPOINTS;
  assert.equal(keyOf(origin, Buffer.from(seed, 'hex')).vkey, vkey);
  for (const { tree_size: treeSize, root: rootHash, note } of checkpoints) {
    assert.deepEqual(parseCheckpoint(note), { origin, treeSize, rootHash, extensions: [] });
    assert.deepEqual(names(verifyNote(note, [vkey])), [origin]);
    for (const other of checkpoints.filter((checkpoint) => checkpoint.note !== note)) {
      const mixed = note.split('\n\n')[0] + other.note.slice(other.note.indexOf('\n\n'));
      refused(() => verifyNote(mixed, [vkey]));
    }
  }
});

test('the example of the Go package verifies', () => {
  const text = 'If you think cryptography is the answer to your problem,\n'
    + 'then you don\'t know what your problem is.\n';
  const note = `${text}\n\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1`
    + 'FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n';
  const vkey = 'PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW';
  assert.deepEqual(names(verifyNote(note, [vkey])), ['PeterNeumann']);
});

test('no changed note is accepted', () => {
  const { vkey, checkpoints: [, , { note }] } = CHECKPOINTS;
  const wrong = (changed) => refused(() => verifyNote(changed, [vkey]), JSON.stringify(changed));
  for (let at = 0; at < note.length; at += 1) {
    for (const put of ['A', '0', '\n', ' ', '=', '\u00e9'].filter((put) => put !== note[at])) {
      wrong(spliced(note, at, 1, put));
    }
    wrong(spliced(note, at, 1));
    wrong(spliced(note, at, 0, note[at]));
    wrong(note.slice(0, at));
    wrong(note.slice(at + 1));
  }
  for (const end of ['\n', '\n\n', ' ', '\u2014 x AAAAAAA=', '\u2014\n', 'junk\n']) {
    wrong(note + end);
  }
});

test('only trusted keys count, and a wrong signature of one is never passed over', () => {
  const [a, b, c] = [1, 2, 3].map((seed) => keyOf(EXAMPLE, Buffer.alloc(32, seed)));
  const text = textOf(EXAMPLE);
  const note = signed(text, a, b);
  const id = (key) => key.vkey.split('+')[1];
  const signers = (...keys) => {
    return verifyNote(note, keys.map((key) => key.vkey)).map((key) => key.keyId);
  };
  assert.deepEqual(signers(a), [id(a)]);
  assert.deepEqual(signers(c, b), [id(b)]);
  assert.deepEqual(signers(b, a, a, c), [id(a), id(b)]);
  refused(() => signers(c));
  refused(() => signers());
  const wrong = text + '\n' + a.line(text) + b.line(textOf(EXAMPLE, 21));
  assert.equal(verifyNote(wrong, [a.vkey]).length, 1);
  refused(() => verifyNote(wrong, [a.vkey, b.vkey]));
  refused(() => verifyNote(`${text}\n${a.line(text)}${a.line(text)}`, [a.vkey]), 'twice');
  const paragraphs = 'a\n\nb\n';
  assert.equal(verifyNote(signed(paragraphs, a), [a.vkey]).length, 1);
  // Two keys of one name whose ids happen to be equal.
  const twins = TWINS.map((at) => vkeyOf(EXAMPLE, sha256(`key ${at}`)));
  assert.equal(twins[0].vkey.split('+')[1], twins[1].vkey.split('+')[1]);
  const twice = `${text}\n${a.line(text)}${twins[0].line(Buffer.alloc(64))}`;
  const ambiguous = () => verifyNote(twice, [a.vkey, ...twins.map((twin) => twin.vkey)]);
  assert.throws(ambiguous, { message: /two of the verifier keys are/ });
  // Name or id alone is not the key; a key that cannot be read is not passed over either.
  refused(() => verifyNote(note, [keyOf(`${EXAMPLE}/i2`, Buffer.alloc(32, 1)).vkey]));
  refused(() => verifyNote(note, [a.vkey, 'x']));
});

test('a signature has one spelling', () => {
  const text = textOf('a');
  const little = (number) => Buffer.from(number.toString(16).padStart(64, '0'), 'hex').reverse();
  const number = (bytes) => BigInt(`0x${hex(Buffer.from(bytes).reverse())}`);
  const key = keyOf('a');
  const good = Buffer.from(key.line(text).split(' ')[2], 'base64').subarray(4);
  const { vkey, line } = vkeyOf('a', key.publicKey);
  const accepted = (bytes, by = { vkey, line }) => {
    try {
      return verifyNote(`${text}\n${by.line(bytes)}`, [by.vkey]).length === 1;
    } catch (error) {
      assert.ok(error instanceof VerifyError, String(error));
      return false;
    }
  };
  assert.ok(accepted(good));
  const [r, s] = [good.subarray(0, 32), good.subarray(32)];
  // S + L satisfies the same equation (RFC 8032 section 5.1.7 refuses it).
  for (const more of [1n, 2n, 15n]) {
    assert.ok(!accepted(Buffer.concat([r, little(number(s) + more * ORDER)])));
  }
  assert.ok(!accepted(Buffer.concat([r, s, Buffer.of(0)])));
  assert.ok(!accepted(good.subarray(1)));
  assert.ok(!accepted(Buffer.of(1)));

  // R with a part of small order: holds with the cofactor, not without (made with the secret key).
  const { scalar, pointBytes } = ed25519.utils.getExtendedPublicKey(SEED);
  const point = (encoding) => ed25519.Point.fromHex(encoding, true);
  const small = ['c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f', `${'00'.repeat(32)}`,
    `01${'00'.repeat(31)}`];
  const sign = (R, nonce) => {
    const bytes = R.toBytes();
    const sha = crypto.createHash('sha512');
    const digest = sha.update(bytes).update(pointBytes).update(text).digest();
    return Buffer.concat([bytes, little((nonce + (number(digest) % ORDER) * scalar) % ORDER)]);
  };
  assert.ok(accepted(sign(ed25519.Point.BASE.multiply(7n), 7n)));
  for (const torsion of small.map(point)) {
    assert.ok(torsion.isSmallOrder());
    const mixed = ed25519.Point.BASE.multiply(7n).add(torsion);
    const isNone = torsion.is0();
    assert.equal(accepted(sign(mixed, 7n)), isNone);
    assert.ok(!accepted(sign(torsion, 0n)), 'R of small order');
    // The package takes it, so that the check on top of it is not idle.
    const message = Buffer.from(text);
    assert.ok(ed25519.verify(sign(mixed, 7n), message, pointBytes, { zip215: false }));
  }
  // A key of small order fits a signature that nobody made.
  for (const encoding of [...small, `ee${'ff'.repeat(30)}7f`, `01${'00'.repeat(30)}80`]) {
    const by = vkeyOf('a', Buffer.from(encoding, 'hex'));
    refused(() => parseVkey(by.vkey), encoding);
    assert.ok(!accepted(Buffer.concat([Buffer.from(encoding, 'hex'), Buffer.alloc(32)]), by));
  }
});

test('a verifier key is read strictly', () => {
  const { vkey, publicKey } = keyOf(EXAMPLE);
  const [name, id, key] = vkey.split(/\+(.{8})\+/);
  const parsed = { text: vkey, name, keyId: id, publicKey: Uint8Array.from(publicKey) };
  assert.deepEqual(parseVkey(vkey), parsed);
  for (let at = 0; at < vkey.length; at += 1) {
    refused(() => parseVkey(vkey.slice(0, at)), `cut at ${at}`);
    refused(() => parseVkey(vkey.slice(0, at + 1) + vkey.slice(at)), `doubled at ${at}`);
    for (const put of ['a', 'A', '0', '+', ' ', '=', '\n'].filter((put) => put !== vkey[at])) {
      refused(() => parseVkey(vkey.slice(0, at) + put + vkey.slice(at + 1)), `${put} at ${at}`);
    }
  }
  const { vkey: named } = vkeyOf('b\u00e9\ufeff\u200b', publicKey);
  assert.equal(parseVkey(named).name, 'b\u00e9\ufeff\u200b');
  for (const bad of ['', ' ', 'a b', 'a\u0085', 'a\u00a0', '\u2028', 'a\u3000', 'a\tb', 'a\u0001',
    '\ud800']) {
    refused(() => parseVkey(vkeyOf(bad, publicKey).vkey), JSON.stringify(bad));
  }
  for (const wrong of [null, undefined, 7, {}, [], '', '+', '++', `${name}+${id}`, `+${id}+${key}`,
    `${name}+${id.toUpperCase()}+${key}`, `${name}+00000000+${key}`, `${vkey}\n`, ` ${vkey}`,
    `${name}+${id}+`, vkeyOf('n'.repeat(10_000), publicKey).vkey, 'x'.repeat(1e6),
    vkeyOf(name, publicKey, 2).vkey,
  ]) {
    refused(() => parseVkey(wrong), String(wrong).slice(0, 99));
  }
  // Too short, too long, a y of p and more, no point of the curve.
  const noPoint = Buffer.from('02'.padEnd(64, '0'), 'hex');
  const long = Buffer.alloc(33, 2);
  for (const bytes of [publicKey.subarray(1), long, Buffer.alloc(32, 0xff), noPoint]) {
    refused(() => parseVkey(vkeyOf(name, bytes).vkey), hex(bytes));
  }
});

test('a checkpoint is read strictly', () => {
  const key = keyOf('o');
  const parse = (text) => parseCheckpoint(`${text}\n${key.line(text)}`);
  const extended = textOf('an origin + spaces', 2 ** 53 - 1) + 'extension\n \u2014 another\n';
  assert.deepEqual(parse(extended), {
    origin: 'an origin + spaces', treeSize: 2 ** 53 - 1, rootHash: ROOT,
    extensions: ['extension', ' \u2014 another'],
  });
  for (const size of ['', '00', '01', '+1', '-1', ' 1', '1 ', '1.0', '0x1', '1_0', '1e3', '\u0661',
    'a', '9007199254740992', '9007199254740993', '18446744073709551615', '1'.repeat(400)]) {
    refused(() => parse(textOf('o', size)), size);
  }
  for (const root of ['', 'AAAA', `${ROOT} `, ROOT.slice(0, -1), ROOT.replace('U=', 'V='),
    ROOT.toLowerCase()]) {
    refused(() => parse(textOf('o', 1, root)), root);
  }
  for (const text of ['\n', 'o\n', 'o\n1\n', textOf(''), `${textOf('o')}\n`, `${textOf('o')}\nx\n`,
    `o\n\n1\n${ROOT}\n`, textOf('o').replaceAll('\n', '\r\n'), textOf('o\0'), textOf('\ud800'),
    '']) {
    refused(() => parse(text), JSON.stringify(text));
  }
  const text = textOf('o');
  const line = (at) => vkeyOf(`k${at}`, key.publicKey).line(Buffer.of(1, 2));
  const lines = (count) => `${text}\n${[...Array(count).keys()].map(line).join('')}`;
  assert.equal(parseCheckpoint(lines(100)).treeSize, 20);
  refused(() => parseCheckpoint(lines(101)));
  const good = line(0);
  for (const end of ['', good.slice(0, -1), good.replace('\u2014', '-'), good.replace(' ', '  '),
    '\u2014  AAAAAAA=\n', '\u2014 a AAAAAA==\n', '\u2014 a+b AAAAAAA=\n', '\u2014 a\n',
    '\u2014 a AAAAAAB=\n', good + good]) {
    refused(() => parseCheckpoint(`${text}\n${end}`), JSON.stringify(end));
  }
  refused(() => parseCheckpoint(`${textOf('o'.repeat(1e6))}\n${good}`), 'too large');
  refused(() => parseCheckpoint(`${textOf('\u20ac'.repeat(4e5))}\n${good}`), 'in UTF-8');
  for (const note of [null, undefined, 7, {}, [], text]) refused(() => parseCheckpoint(note));
});
