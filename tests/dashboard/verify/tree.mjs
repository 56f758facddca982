// Proofs of inclusion, against a tree that is computed as RFC 9162 defines it.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  MERKLE, base64, bytes, hex, path, refused, sha256, spliced, treeHash, ui,
} from './common.mjs';

const { VerifyError, leafHash, rootFromInclusionProof } = ui;
const { fromBase64 } = bytes;

test('leaves and proofs of the vectors', () => {
  const leaves = MERKLE.row_hashes.map(leafHash);
  assert.deepEqual(leaves.map(base64), MERKLE.leaf_hashes);
  assert.ok(MERKLE.inclusion.length >= 18);
  for (const { leaf_index, tree_size, proof } of MERKLE.inclusion) {
    const root = rootFromInclusionProof(
      leaf_index, tree_size, leaves[leaf_index], proof.map(fromBase64));
    assert.equal(base64(root), MERKLE.roots[tree_size].root);
  }
  for (const { tree_size, root } of MERKLE.roots.slice(1)) {
    assert.equal(base64(treeHash(leaves.slice(0, tree_size))), root);
  }
  refused(() => leafHash(MERKLE.row_hashes[0].toUpperCase()));
});

test('every leaf of every small tree is proved by its own proof alone', () => {
  const leaves = Array.from({ length: 64 }, (_, at) => leafHash(hex(sha256(`row ${at}`))));
  for (let size = 1; size <= 64; size += 1) {
    const root = hex(treeHash(leaves.slice(0, size)));
    for (let index = 0; index < size; index += 1) {
      const proof = path(index, leaves.slice(0, size));
      const leads = (...input) => {
        try {
          return hex(rootFromInclusionProof(...input)) === root;
        } catch (error) {
          assert.ok(error instanceof VerifyError);
          return false;
        }
      };
      assert.ok(leads(index, size, leaves[index], proof), `${index} of ${size}`);
      assert.ok(!leads(index, size, leaves[(index + 1) % 64], proof));
      assert.ok(!leads(size, size, leaves[index], proof));
      for (let at = 0; at <= proof.length; at += 1) {
        assert.ok(!leads(index, size, leaves[index], spliced(proof, at, 1, sha256('other'))));
        assert.ok(!leads(index, size, leaves[index], spliced(proof, at, 0, leaves[index])));
        if (at === proof.length) continue;
        assert.ok(!leads(index, size, leaves[index], spliced(proof, at, 1)));
        assert.ok(!leads(index, size, leaves[index], spliced(proof, at, 0, proof[at])));
      }
      for (const other of [index - 2, index - 1, index + 1, index + 2, size - 1 - index]) {
        assert.equal(leads(other, size, leaves[index], proof), other === index);
      }
    }
  }
});

test('trees beyond 32 bits', () => {
  /** Root and length of the path with these hashes, from the definition, on big integers. */
  const climb = (m, n, leaf, next) => {
    if (n === 1n) return leaf;
    let k = 1n;
    while (2n * k < n) k *= 2n;
    const below = m < k ? climb(m, k, leaf, next) : climb(m - k, n - k, leaf, next);
    return m < k ? sha256([1], below, next()) : sha256([1], next(), below);
  };
  const leaf = sha256('leaf');
  for (const size of [2 ** 31, 2 ** 31 + 1, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 5, 2 ** 40 + 3,
    2 ** 52, 2 ** 53 - 2, 2 ** 53 - 1]) {
    const places = [0, 1, 2 ** 30 + 1, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 2,
      Math.floor(size / 2), size - 2, size - 1];
    for (const index of places.filter((place) => place < size)) {
      const hashes = [];
      const root = climb(BigInt(index), BigInt(size), leaf, () => {
        hashes.push(sha256(`${hashes.length}`));
        return hashes.at(-1);
      });
      assert.equal(hex(rootFromInclusionProof(index, size, leaf, hashes)), hex(root));
      refused(() => rootFromInclusionProof(index, size, leaf, [...hashes, leaf]));
      refused(() => rootFromInclusionProof(index, size, leaf, hashes.slice(1)));
    }
  }
  const wrong = [[0, 0], [1, 1], [-1, 1], [0.5, 1], ['0', 1], [0, '1'], [0, 2 ** 53], [NaN, 1],
    [null, 1], [0, null], [0, Infinity], [0, 1n]];
  for (const [index, size] of wrong) refused(() => rootFromInclusionProof(index, size, leaf, []));
  refused(() => rootFromInclusionProof(0, 2, leaf, [leaf.subarray(1)]));
});
