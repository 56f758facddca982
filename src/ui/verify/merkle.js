// The Merkle tree over the log (FORMAT.md section 3, RFC 9162 section 2.1).

import { VerifyError, concatBytes, quote, rowHashBytes, sha256 } from './bytes.js';

const LEAF_PREFIX = Uint8Array.of(0x00);
const NODE_PREFIX = Uint8Array.of(0x01);

/** Bytes of a leaf, node or root hash. */
export const TREE_HASH_BYTES = 32;

/** Hashes of a proof at most: one for each level of the largest tree there can be. */
export const MAX_PROOF_HASHES = 64;

/**
 * The hash of a row's leaf: SHA-256(0x00 ‖ the 32 bytes of row_hash) (RFC 9162 section 2.1.1).
 * @param {string} rowHash 64 lowercase hexadecimal digits
 * @returns {Uint8Array} 32 bytes
 * @throws {VerifyError} where that is no row hash
 */
export function leafHash(rowHash) {
  return sha256(concatBytes(LEAF_PREFIX, rowHashBytes(rowHash)));
}

/** SHA-256(0x01 ‖ left ‖ right) (RFC 9162 section 2.1.1). */
function nodeHash(left, right) {
  return sha256(concatBytes(NODE_PREFIX, left, right));
}

// The operators >> and & would cut a size to 32 bits.
const isOdd = (number) => number % 2 === 1;
const half = (number) => Math.floor(number / 2);

/**
 * The root hash to which a proof leads from a leaf (RFC 9162 section 2.1.3.2, all but the last
 * comparison). It shows something only where it equals the root hash of a checkpoint that is
 * trusted and has this tree size: several sizes share the shape of a proof.
 * @param {number} leafIndex the leaf's place, from 0, below 2^53
 * @param {number} treeSize leaves of the tree, below 2^53
 * @param {Uint8Array} leaf the leaf's hash, see {@link leafHash}
 * @param {Uint8Array[]} hashes the inclusion path, from the leaf towards the root, 32 bytes each
 * @returns {Uint8Array} 32 bytes
 * @throws {VerifyError} where the leaf is not in a tree of that size, or the path is too short or
 *   too long for it
 */
export function rootFromInclusionProof(leafIndex, treeSize, leaf, hashes) {
  if (![leafIndex, treeSize].every((number) => Number.isSafeInteger(number) && number >= 0)) {
    throw new VerifyError(`there is no leaf ${quote(leafIndex)} of ${quote(treeSize)}`);
  }
  if ([leaf, ...hashes].some((hash) => hash.length !== TREE_HASH_BYTES)) {
    throw new VerifyError(`a hash of the proof is not of ${TREE_HASH_BYTES} bytes`);
  }
  // 1. Fail if leaf_index is not below tree_size.
  if (leafIndex >= treeSize) {
    throw new VerifyError(`leaf ${leafIndex} is not in a tree of size ${treeSize}`);
  }
  // 2. Set fn to leaf_index and sn to tree_size - 1.
  let [fn, sn] = [leafIndex, treeSize - 1];
  // 3. Set r to hash.
  let r = leaf;
  // 4. For each value p in the inclusion path:
  for (const p of hashes) {
    // 4.a. If sn is 0, the root was reached before this hash: fail.
    if (sn === 0) throw new VerifyError('the proof has too many hashes');
    // 4.b. If LSB(fn) is set, or if fn is equal to sn:
    if (isOdd(fn) || fn === sn) {
      r = nodeHash(p, r); // 4.b.i. Set r to HASH(0x01 || p || r).
      // 4.b.ii. If LSB(fn) is not set, right-shift both until LSB(fn) is set or fn is 0.
      while (!isOdd(fn) && fn !== 0) [fn, sn] = [half(fn), half(sn)];
    } else {
      r = nodeHash(r, p); // 4.b, otherwise: i. Set r to HASH(0x01 || r || p).
    }
    // 4.c. Right-shift both fn and sn one time.
    [fn, sn] = [half(fn), half(sn)];
  }
  // 5. Compare sn to 0; the caller compares r with the root hash.
  if (sn !== 0) throw new VerifyError('the proof has too few hashes');
  return r;
}
