// The dashboard's verification of a row, against the vectors of the Rust verifier, a tree and
// signatures made by other means, and everything that must not pass.
//
//     node --test tests/dashboard/verify.test.mjs        (node 18.19 or later)

import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

import './verify/rows.mjs';
import './verify/tree.mjs';
import './verify/notes.mjs';
import {
  CHECKPOINTS, MERKLE, ROOT, ROWS, base64, keyOf, path as proofPath, repository, rowOf, sha256,
  signed, spliced, textOf, treeHash, ui, vkeyOf,
} from './verify/common.mjs';

const { leafHash, rowHash, verifyRow } = ui;
const STEPS = ['hash', 'link', 'inclusion', 'checkpoint', 'signature'];
const clone = (value) => JSON.parse(JSON.stringify(value));

const LEAVES = MERKLE.row_hashes.map(leafHash);
const LAST = CHECKPOINTS.checkpoints.at(-1);
assert.equal(LAST.tree_size, LEAVES.length);

/** What is needed to verify the row of a leaf of the vectors' log, as a server answers it. */
const inputOf = (leafIndex) => clone(INPUTS[leafIndex]);

const INPUTS = LEAVES.map((_, leafIndex) => {
  const row = rowOf(ROWS.rows[leafIndex], leafIndex);
  const before = ROWS.rows[leafIndex - 1];
  return {
    row,
    ...(row.id > 1 && { previous: rowOf(before, leafIndex - 1) }),
    proof: {
      chain: row.chain,
      id: row.id,
      leaf_index: leafIndex,
      row_hash: row.row_hash,
      tree_size: LAST.tree_size,
      root_hash: LAST.root,
      hashes: proofPath(leafIndex, LEAVES).map(base64),
      checkpoint: LAST.note,
    },
    vkeys: [CHECKPOINTS.vkey],
  };
});

/** Verifies, and requires that all of this can be shown: texts, and an overall answer that fits. */
function verify(input) {
  const { ok, steps } = verifyRow(input);
  const names = steps.map((step) => step.name);
  assert.deepEqual(names.slice(-STEPS.length), STEPS);
  for (const { name, title, ok: isOk, detail, expected, actual } of steps) {
    assert.ok([true, false, null].includes(isOk), name);
    for (const text of [title, detail]) assert.ok(typeof text === 'string' && text !== '', name);
    assert.ok(detail.length < 600, detail);
    assert.doesNotMatch(detail, /this could not be read/, 'an error that nobody foresaw');
    assert.equal(typeof expected, typeof actual);
    if (isOk) assert.equal(expected, actual);
    if (isOk === false && expected !== undefined) assert.notEqual(expected, actual);
  }
  const outcomes = steps.map((step) => step.ok);
  const overall = outcomes.includes(false) ? false : !outcomes.includes(null) || null;
  assert.equal(ok, overall);
  return { ok, step: Object.fromEntries(steps.map((step) => [step.name, step])) };
}

/** Verifies a changed input, and requires that just these steps fail and those cannot be done. */
function expect(change, failing, undone = [], leafIndex = 7) {
  const input = inputOf(leafIndex);
  change(input);
  const { ok, step } = verify(input);
  const named = (outcome) => STEPS.filter((name) => step[name].ok === outcome);
  assert.deepEqual(named(false), failing, JSON.stringify(step));
  assert.deepEqual(named(null), undone, JSON.stringify(step));
  assert.equal(ok, failing.length > 0 ? false : undone.length > 0 ? null : true);
  return step;
}

test('every row of the log verifies', () => {
  for (let leaf = 0; leaf < LEAVES.length; leaf += 1) {
    const { step } = verify({ ...inputOf(leaf), shown: inputOf(leaf).row });
    assert.deepEqual(Object.values(step).map(({ ok }) => ok), [true, true, true, true, true, true]);
  }
  expect(() => {}, [], []);
});

test('no member of a row can be changed, left out or added', () => {
  const isHashed = (name) => !['row_hash', 'leaf_index'].includes(name);
  for (let leaf = 0; leaf < ROWS.rows.length; leaf += 1) {
    const row = rowOf(ROWS.rows[leaf], leaf);
    const failsAt = (changed, name) => {
      const { ok, step } = verify({ row: changed });
      assert.ok(ok === false && step.hash.ok === false, `${name} of ${row.chain} ${row.id}`);
    };
    for (const [name, value] of Object.entries(row).filter(([name]) => name !== 'leaf_index')) {
      const { [name]: _, ...without } = row;
      failsAt(without, name);
      for (const other of [null, '', 'x', 0, 1, 7, true, false, `${value} `, {}, [value]]) {
        if (other !== value) failsAt({ ...row, [name]: other }, name);
      }
      if (typeof value === 'string') {
        failsAt({ ...row, [name]: `${value}\u200b` }, name);
        failsAt({ ...row, [name]: value.slice(0, -1) || '0' }, name);
      }
      if (typeof value === 'number') failsAt({ ...row, [name]: String(value) }, name);
      if (!isHashed(name)) continue;
      const { [name]: moved, ...rest } = row;
      failsAt({ ...rest, [`${name}_`]: moved }, name);
    }
    for (const [name, value] of [['note', null], ['v', 1], ['v', 2], ['x_text', ''], ['', '']]) {
      failsAt({ ...row, [name]: value }, name);
    }
  }
});

test('a row that is changed along with its hashes is not in the tree', () => {
  const rehash = (row) => {
    row.row_hash = rowHash(row);
    return row.row_hash;
  };
  const change = ({ row }) => {
    row.symbol = 'XRPUSD';
    return rehash(row);
  };
  expect((input) => change(input), ['inclusion']);
  expect((input) => { input.proof.row_hash = change(input); }, ['inclusion']);
  for (const claimed of ['row', 'proof']) {
    expect((input) => {
      const { row_hash } = input.row;
      input.proof.row_hash = change(input);
      input[claimed].row_hash = row_hash;
    }, claimed === 'row' ? ['hash', 'inclusion'] : ['inclusion']);
  }
  // The hash that was signed, beside columns that are others.
  const step = expect(({ row }) => { row.quantity = '3.0000000000'; }, ['hash', 'inclusion']);
  assert.equal(step.hash.expected, inputOf(7).row.row_hash);
  assert.match(step.hash.detail, new RegExp(`hash to ${step.hash.actual}, but row_hash says`));
  const unreadable = expect(({ row }) => { row.price = 'unreadable: price holds a NaN'; },
    ['hash', 'inclusion']);
  assert.match(unreadable.hash.detail, /"price" is "unreadable: price holds a NaN"/);
});

test('a row links to the one before, which is hashed again', () => {
  const failing = (change, ...more) => expect(change, ['link', ...more]);
  failing(({ previous }) => { previous.symbol = 'X'; });
  failing(({ previous }) => { previous.symbol = 'X'; previous.row_hash = rowHash(previous); });
  failing(({ previous }) => { previous.row_hash = sha256('x').toString('hex'); });
  failing(({ previous }) => { previous.row_hash = null; });
  failing(({ previous }) => { previous.quantity = 1.5; });
  failing(({ previous }) => { previous.id = 2; });
  failing(({ previous }) => { previous.chain = 'signals'; });
  failing((input) => { input.previous = inputOf(0).row; });
  failing((input) => { input.previous = input.row; });
  for (const wrong of [7, 'row', [], {}, false]) failing((input) => { input.previous = wrong; });
  // Rows that the row does link to, and which do not stand before it.
  for (const other of [{ id: 2 }, { id: 3 }, { chain: 'order_events' }]) {
    failing(({ row, previous, proof }) => {
      previous.row_hash = rowHash(Object.assign(previous, other));
      row.prev_hash = previous.row_hash;
      row.row_hash = rowHash(row);
      proof.row_hash = row.row_hash;
    }, 'inclusion');
  }
  // What the row says of itself, changed along with its hash.
  failing(({ row, proof }) => {
    row.prev_hash = sha256('x').toString('hex');
    row.row_hash = rowHash(row);
    proof.row_hash = row.row_hash;
  }, 'inclusion');
  expect((input) => { delete input.previous; }, [], ['link']);
  expect((input) => { input.previous = null; }, [], ['link']);
  // Row 1 begins at its chain's genesis, not at another's, and needs no row before.
  for (const chain of ['signals', 'ai_debates']) {
    const begin = ({ row }) => {
      row.prev_hash = ROWS.genesis[chain];
      row.row_hash = rowHash(row);
    };
    expect(begin, chain === 'signals' ? [] : ['link', 'inclusion'], [], 0);
  }
  // A fault in the columns leaves the link to be compared.
  expect(({ row }) => { row.price = 1.5; }, ['hash'], ['inclusion']);
});

test('a proof is of this row and leads to the root', () => {
  const failing = (change, ...more) => expect(change, ['inclusion', ...more]);
  const { proof } = inputOf(7);
  for (let at = 0; at <= proof.hashes.length; at += 1) {
    const splice = (...edit) => {
      failing((input) => { input.proof.hashes = spliced(proof.hashes, at, ...edit); });
    };
    splice(0, ROOT);
    splice(0, ...proof.hashes.slice(at, at + 1), ROOT);
    if (at === proof.hashes.length) continue;
    splice(1);
    splice(1, ROOT);
    const good = proof.hashes[at];
    for (const wrong of [null, 7, '', 'AAAA', `${good} `, good.slice(0, -1)]) splice(1, wrong);
  }
  failing((input) => input.proof.hashes.reverse());
  for (const hashes of [undefined, null, {}, 'x', 7, Array(65).fill(ROOT), Array(1e6).fill('')]) {
    failing((input) => { input.proof.hashes = hashes; });
  }
  const others = {
    chain: ['signals', null], id: [1, '2', null], leaf_index: [6, '7', null, 2 ** 53],
    row_hash: [inputOf(6).row.row_hash, proof.row_hash.toUpperCase(), null],
  };
  for (const [name, values] of Object.entries(others)) {
    for (const value of values) failing((input) => { input.proof[name] = value; });
    failing((input) => { delete input.proof[name]; });
  }
  // Both say the same, and it is not so.
  for (const leaf of [6, 8, 16, 17, 2 ** 40, -1, 0.5, '7', null]) {
    failing((input) => { input.row.leaf_index = leaf; input.proof.leaf_index = leaf; });
  }
  // The proof of another row.
  failing((input) => { input.proof = inputOf(6).proof; });
  const wrong = { hash: 1, hashes: [], chain: 'x' };
  for (const other of [7, 'proof', [], {}, wrong, false]) {
    expect((input) => { input.proof = other; }, ['inclusion', 'checkpoint'], ['signature']);
  }
});

test('a checkpoint is the one of the proof, and signed by a trusted key', () => {
  const { root: root1, note: note1 } = CHECKPOINTS.checkpoints[1];
  expect(({ proof }) => { proof.tree_size = 16; }, ['checkpoint']);
  expect(({ proof }) => { proof.tree_size = '17'; }, ['checkpoint']);
  expect(({ proof }) => { proof.root_hash = root1; }, ['checkpoint']);
  expect(({ proof }) => { delete proof.root_hash; }, ['checkpoint']);
  // A true checkpoint of another size.
  expect(({ proof }) => { proof.checkpoint = note1; }, ['inclusion', 'checkpoint']);
  // A note that was changed, along with what stands beside it. Trees of 17 and 18 leaves share the
  // shape of this proof: the signature alone tells which one has the root.
  for (const [size, failing] of [[18, []], [33, ['inclusion']], [7, ['inclusion']]]) {
    expect(({ proof }) => {
      proof.checkpoint = LAST.note.replace('\n17\n', `\n${size}\n`);
      proof.tree_size = size;
    }, [...failing, 'signature']);
  }
  expect(({ proof }) => {
    proof.checkpoint = LAST.note.replace(LAST.root, ROOT);
    proof.root_hash = ROOT;
  }, ['inclusion', 'signature']);
  // In the tree of somebody else, or of somebody who takes the log's name.
  for (const origin of [CHECKPOINTS.origin, 'example.com/other']) {
    const text = textOf(origin, 17, LAST.root);
    const stranger = keyOf(origin);
    const take = ({ proof }) => { proof.checkpoint = signed(text, stranger); };
    const step = expect(take, ['signature']);
    assert.match(step.signature.detail, /no trusted verifier key signed the note/);
    expect((input) => {
      take(input);
      input.vkeys.push(stranger.vkey);
    }, []);
  }
  // A trusted key signs another's checkpoint.
  const other = keyOf('example.com/other');
  const crossed = expect((input) => {
    input.proof.checkpoint = signed(textOf(CHECKPOINTS.origin, 17, LAST.root), other);
    input.vkeys = [CHECKPOINTS.vkey, other.vkey];
  }, ['signature']);
  assert.equal(crossed.signature.expected, CHECKPOINTS.origin);
  assert.equal(crossed.signature.actual, 'example.com/other');
  const undone = ['inclusion', 'signature'];
  for (const wrong of [null, undefined, 7, {}, '', 'x', LAST.note.slice(0, -1), `${LAST.note}\n`,
    `\u2028${LAST.note}\n`, '\n'.repeat(2e6), LAST.note.replace('=\n\n', '\n\n')]) {
    expect(({ proof }) => { proof.checkpoint = wrong; }, ['checkpoint'], undone);
  }
});

test('what cannot be done is neither a yes nor a no', () => {
  const rest = ['inclusion', 'checkpoint', 'signature'];
  expect((input) => { delete input.proof; }, [], rest);
  expect((input) => { input.proof = null; }, [], rest);
  expect((input) => { delete input.vkeys; }, [], ['signature']);
  expect((input) => { input.vkeys = null; }, [], ['signature']);
  expect((input) => { input.vkeys = []; }, [], ['signature']);
  expect((input) => { delete input.proof; input.row.symbol = 'X'; }, ['hash'], rest);
  const [id] = /(?<=\+)[0-9a-f]{8}(?=\+)/.exec(CHECKPOINTS.vkey);
  const small = vkeyOf(CHECKPOINTS.origin, Buffer.alloc(32)).vkey;
  for (const vkeys of [['x'], [CHECKPOINTS.vkey, ''], [CHECKPOINTS.vkey.replace(id, '00000000')],
    [null], [[]], [small], {}, 'x', 7, [keyOf(CHECKPOINTS.origin).vkey]]) {
    expect((input) => { input.vkeys = vkeys; }, ['signature']);
  }
});

test('the row is the one that is shown', () => {
  const shows = (shown) => verify({ ...inputOf(7), shown });
  const { row } = inputOf(7);
  assert.equal(shows({ chain: row.chain, id: row.id }).ok, true);
  assert.equal(shows({}).ok, null);
  assert.equal('shown' in shows(null).step, false);
  for (const shown of [{ id: 1 }, { id: '2' }, { toString: null }, { x: undefined },
    { symbol: 'X' }, [], 'x', 7, { ...row, price: '1.0000000000' }, inputOf(6).row]) {
    const { ok, step } = shows(shown);
    assert.deepEqual([ok, step.shown.ok, step.hash.ok], [false, false, true]);
  }
  assert.equal(verify({ row: null, shown: row }).step.shown.ok, false);
});

test('nothing malformed throws', () => {
  const deep = JSON.parse('['.repeat(1e5) + ']'.repeat(1e5));
  const odd = JSON.parse('{"toString":1,"valueOf":{},"__proto__":{"chain":"signals","id":1}}');
  const values = [undefined, null, true, 0, -1, 1.5, 2 ** 53, '', 'x', '\ud800', 'x'.repeat(1e5),
    [], [[]], {}, deep, odd, { length: 3 }];
  for (const value of [...values.slice(2), Object.create(null)]) {
    assert.equal(verify(value).ok, false);
    assert.equal(verify({ row: value }).ok, false);
  }
  for (const input of [undefined, null, {}]) assert.equal(verify(input).ok, false);
  for (const value of values) {
    for (const part of ['row', 'previous', 'proof', 'vkeys', 'shown']) {
      const { ok } = verify({ ...inputOf(7), [part]: value });
      if (part !== 'shown') assert.notEqual(ok, true, part);
    }
    for (const part of ['row', 'previous', 'proof']) {
      for (const member of Object.keys(inputOf(7)[part])) {
        const input = inputOf(7);
        if (input[part][member] === value) continue;
        input[part][member] = value;
        const isUnused = part === 'previous' && member === 'leaf_index';
        assert.equal(verify(input).ok, isUnused, `${part}.${member}`);
      }
    }
    for (const part of ['vkeys', 'hashes']) {
      const input = inputOf(7);
      (part === 'vkeys' ? input : input.proof)[part][0] = value;
      assert.equal(verify(input).ok, false);
    }
  }
});

test('rows with documents and texts of any kind verify', () => {
  const name = 'example.com/log';
  const texts = ['<script>alert(1)</script>', '\u2028\u2029\u0000\u001f\u007f\ufeff\ufffe', '"',
    '\\u0000', '{"__proto__":1,"a":1e400,"a":[]}', '🚀'.repeat(1000), '', '['.repeat(1e5), '=1'];
  const first = rowOf(ROWS.rows[17], 0);
  const rows = texts.map((text, at) => {
    const body = { body_base64: base64(crypto.randomBytes(at * 7)) };
    return { ...first, ...body, id: at + 1, detail: text, leaf_index: at };
  });
  rows.forEach((row, at) => {
    row.prev_hash = at === 0 ? ROWS.genesis.quarantined_deliveries : rows[at - 1].row_hash;
    row.row_hash = rowHash(row);
  });
  const leaves = rows.map((row) => leafHash(row.row_hash));
  const root_hash = base64(treeHash(leaves));
  const checkpoint = signed(textOf(name, rows.length, root_hash), keyOf(name));
  rows.forEach((row, at) => {
    const { chain, id, leaf_index, row_hash } = row;
    const hashes = proofPath(at, leaves).map(base64);
    const head = { tree_size: rows.length, root_hash, checkpoint };
    const proof = { chain, id, leaf_index, row_hash, hashes, ...head };
    const input = { row, previous: rows[at - 1], proof, vkeys: [keyOf(name).vkey], shown: row };
    assert.equal(verify(clone(input)).ok, true, row.detail.slice(0, 80));
    for (const member of ['detail', 'body_base64']) {
      const changed = { ...row, [member]: `${row[member].slice(4)}AAAA` };
      assert.equal(verify({ ...input, row: changed }).step.hash.ok, false);
    }
  });
});

test('what is vendored is as it was, and asks nobody else', () => {
  const folder = fileURLToPath(repository('src/ui/vendor'));
  const lines = fs.readFileSync(path.join(folder, 'SHA256SUMS'), 'utf8').trimEnd().split('\n');
  const listed = lines.map((line) => line.split('  '));
  for (const [sum, file] of listed) {
    const content = fs.readFileSync(path.join(folder, file));
    assert.equal(sha256(content).toString('hex'), sum, file);
    if (!/\.(js|css)$/.test(file)) continue;
    // Comments may name addresses; code imports neighbours only.
    const code = content.toString().replaceAll(/\/\*[^]*?\*\/|(?<=^|\s)\/\/.*$/gm, '');
    const from = [...code.matchAll(/\b(?:import|from)\s*\(?\s*["']([^"']+)["']/g)];
    for (const [, target] of from) assert.match(target, /^\.\//, `${file} imports ${target}`);
    const outside = /\bimport\(|\bfetch\(|XMLHttpRequest|WebSocket|@import|url\(|https?:/;
    // SVG's namespace is a name that looks like an address.
    assert.doesNotMatch(code.replaceAll('"http://www.w3.org/2000/svg"', ''), outside, file);
  }
  const present = fs.readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .flatMap(({ name }) => filesIn(path.join(folder, name)))
    .map((file) => path.relative(folder, file).replaceAll(path.sep, '/'));
  assert.deepEqual(present.sort(), listed.map(([, file]) => file).sort());
});

function filesIn(folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const file = path.join(folder, entry.name);
    return entry.isDirectory() ? filesIn(file) : [file];
  });
}
