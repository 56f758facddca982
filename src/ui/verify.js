// The verification of a row in the browser: step by step, from the row's columns to the signature
// of a checkpoint (FORMAT.md). No DOM and no network; whoever calls it fetches and shows.
//
// Every hash that counts is computed here; those that a server gives are only compared with it.
// What is left to trust is the verifier key, which comes from elsewhere.

import { VerifyError, fromBase64, isObject, quote, toBase64 } from './verify/bytes.js';
import { MAX_PROOF_HASHES, leafHash, rootFromInclusionProof } from './verify/merkle.js';
import { parseCheckpoint, parseVkey, verifyNote } from './verify/note.js';
import { canonicalRow, genesis, placeOf, rowHash } from './verify/row.js';

export {
  VerifyError, canonicalRow, genesis, leafHash, parseCheckpoint, parseVkey, rootFromInclusionProof,
  rowHash, verifyNote,
};

/** What each step shows, in the order of the steps. */
const TITLES = {
  shown: 'The row is the one that is shown',
  hash: 'The columns hash to row_hash',
  link: 'prev_hash is the hash of the row before',
  inclusion: 'The row is in the tree of the checkpoint',
  checkpoint: 'The checkpoint is the one of the proof',
  signature: 'A trusted verifier key signed the checkpoint',
};

/** Begins what stands for a value that has no canonical form any more (FORMAT.md section 2). */
const UNREADABLE = 'unreadable:';

/**
 * @typedef {object} Step one thing that has to hold
 * @property {'shown'|'hash'|'link'|'inclusion'|'checkpoint'|'signature'} name which one
 * @property {string} title what holds where it is ok
 * @property {boolean|null} ok `null` where it could not be done
 * @property {string} detail what was found, or why it could not be done, for people; may repeat
 *   some of what the server sent, so it is to be shown as text
 * @property {string} [expected] what `actual` had to be: row hashes in hexadecimal digits, root
 *   hashes in base64, tree sizes, origins
 * @property {string} [actual] what was found in its place
 */

/**
 * Verifies one row. Never throws: what is malformed is a step that fails and says why.
 * @param {object} input
 * @param {object} input.row the row as JSON (FORMAT.md section 2), as `JSON.parse` makes it
 * @param {object} [input.previous] the row before it in its chain, for a row with an id above 1
 * @param {object} [input.proof] the answer of `/v1/proofs/{chain}/{id}`; not given where no
 *   checkpoint covers the row yet
 * @param {string[]} [input.vkeys] the verifier keys that are trusted
 * @param {object} [input.shown] members that the row must have as they stand here: what the page
 *   shows of it, or the `chain` and `id` that were asked for. Where it is given it is a step more
 * @returns {{ok: boolean|null, steps: Step[]}} `ok` is `false` where a step failed, else `null`
 *   where one could not be done, else `true`
 */
export function verifyRow(input) {
  const { row, previous, proof, vkeys, shown } = input ?? {};
  const hash = attempt(() => rowHash(row));
  const checkpoint = attempt(() => parseCheckpoint(proof.checkpoint));
  const checks = {
    ...(isGiven(shown) && { shown: () => checkShown(row, shown) }),
    hash: () => checkHash(row, hash),
    link: () => checkLink(row, previous),
    inclusion: () => checkInclusion(row, hash, proof, checkpoint),
    checkpoint: () => checkCheckpoint(proof, checkpoint),
    signature: () => checkSignature(proof, checkpoint, vkeys),
  };
  const steps = Object.entries(checks).map(([name, check]) => {
    const { value, error } = attempt(check);
    return { name, title: TITLES[name], ...(value ?? failed(error)) };
  });
  const outcomes = steps.map((step) => step.ok);
  const ok = outcomes.includes(false) ? false : outcomes.includes(null) ? null : true;
  return { ok, steps };
}

const passed = (detail, compared) => ({ ok: true, detail, ...compared });
const failed = (detail, compared) => ({ ok: false, detail, ...compared });
const notDone = (detail) => ({ ok: null, detail });

/** A value beside another one; texts as they are. */
const plain = (value) => (typeof value === 'string' ? value : quote(value));

const isGiven = (value) => value !== undefined && value !== null;

/** What `compute` returns as `value`, or why it could not as `error`. */
function attempt(compute) {
  try {
    return { value: compute() };
  } catch (error) {
    if (error instanceof VerifyError) return { error: error.message };
    // Of no kind that was foreseen; still nothing that was verified.
    return { error: `this could not be read: ${error?.message}` };
  }
}

function checkShown(row, shown) {
  if (!isObject(row)) return failed(`the row is ${quote(row)}, not an object`);
  if (!isObject(shown)) return failed(`what is shown is ${quote(shown)}, not an object`);
  const names = Object.keys(shown);
  if (names.length === 0) return notDone('nothing of the row is shown');
  const other = names.find((name) => !Object.hasOwn(row, name) || row[name] !== shown[name]);
  if (other === undefined) return passed(`what is shown is the row's, in ${names.length} members`);
  const value = quote(Object.hasOwn(row, other) ? row[other] : undefined);
  return failed(`${quote(other)} of the row is ${value}, but ${quote(shown[other])} is shown`);
}

function checkHash(row, hash) {
  if (hash.error) return failed(hash.error);
  const compared = { expected: plain(row.row_hash), actual: hash.value };
  if (row.row_hash === hash.value) return passed('the columns hash to row_hash', compared);
  const unreadable = Object.entries(row)
    .find(([, value]) => typeof value === 'string' && value.startsWith(UNREADABLE));
  const why = unreadable ? `; ${unreadable.map(quote).join(' is ')}` : '';
  const says = `row_hash says ${quote(row.row_hash)}`;
  return failed(`the row's columns hash to ${hash.value}, but ${says}${why}`, compared);
}

function checkLink(row, previous) {
  const { chain, id, prevHash } = placeOf(row);
  if (id === 1) {
    const compared = { expected: genesis(chain), actual: prevHash };
    return prevHash === compared.expected
      ? passed(`row 1 begins at the genesis of ${quote(chain)}`, compared)
      : failed(`prev_hash is ${prevHash}, not the genesis of ${quote(chain)}`, compared);
  }
  const before = `row ${id - 1}`;
  if (!isGiven(previous)) return notDone(`${before} is not there to compare with`);
  const place = attempt(() => placeOf(previous));
  if (place.error) return failed(`the row before is malformed: ${place.error}`);
  const { chain: otherChain, id: otherId } = place.value;
  if (otherChain !== chain || otherId !== id - 1) {
    const which = `row ${otherId} of ${quote(otherChain)}`;
    return failed(`the row before has to be ${before} of ${quote(chain)}, but is ${which}`);
  }
  const computed = attempt(() => rowHash(previous));
  if (computed.error) return failed(`${before} cannot be hashed: ${computed.error}`);
  const compared = { expected: computed.value, actual: prevHash };
  const hashes = `${before} hashes to ${computed.value}, but`;
  if (prevHash !== computed.value) return failed(`${hashes} prev_hash says ${prevHash}`, compared);
  if (previous.row_hash !== computed.value) {
    const claimed = { ...compared, actual: plain(previous.row_hash) };
    return failed(`${hashes} its own row_hash says ${quote(previous.row_hash)}`, claimed);
  }
  return passed(`prev_hash is what ${before} hashes to`, compared);
}

function checkInclusion(row, hash, proof, checkpoint) {
  if (!isGiven(proof)) return noProof();
  if (!isObject(proof)) return failed(`the proof is ${quote(proof)}, not an object`);
  if (hash.error) return notDone('the row has no hash to look for in the tree');
  const own = { chain: row.chain, id: row.id, leaf_index: row.leaf_index, row_hash: hash.value };
  for (const [name, value] of Object.entries(own)) {
    if (proof[name] !== value) {
      const which = `the proof's ${name} is ${quote(proof[name])}`;
      return failed(`${which}, of the row it is ${quote(value)}`);
    }
  }
  if (checkpoint.error) return notDone('without a checkpoint there is no root hash to lead to');
  if (!Array.isArray(proof.hashes) || proof.hashes.length > MAX_PROOF_HASHES) {
    return failed(`the proof's hashes are no list of at most ${MAX_PROOF_HASHES}`);
  }
  // Size and root of the checkpoint: those beside the proof are the server's word.
  const { treeSize, rootHash } = checkpoint.value;
  const hashes = proof.hashes.map(fromBase64);
  const root = rootFromInclusionProof(row.leaf_index, treeSize, leafHash(hash.value), hashes);
  const compared = { expected: rootHash, actual: toBase64(root) };
  const leads = `from leaf ${row.leaf_index} the proof leads to`;
  return compared.actual === rootHash
    ? passed(`${leads} the root hash of the checkpoint of tree size ${treeSize}`, compared)
    : failed(`${leads} ${compared.actual}, but the checkpoint says ${rootHash}`, compared);
}

function checkCheckpoint(proof, checkpoint) {
  if (!isGiven(proof)) return noProof();
  if (checkpoint.error) return failed(`the checkpoint is malformed: ${checkpoint.error}`);
  const { origin, treeSize, rootHash } = checkpoint.value;
  if (proof.tree_size !== treeSize) {
    const compared = { expected: quote(proof.tree_size), actual: String(treeSize) };
    const says = `the proof says ${quote(proof.tree_size)}`;
    return failed(`the checkpoint is of tree size ${treeSize}, but ${says}`, compared);
  }
  const compared = { expected: plain(proof.root_hash), actual: rootHash };
  if (proof.root_hash !== rootHash) {
    const says = `the proof says ${quote(proof.root_hash)}`;
    return failed(`the checkpoint's root hash is ${rootHash}, but ${says}`, compared);
  }
  return passed(`the checkpoint is of ${quote(origin)} at tree size ${treeSize}`, compared);
}

function checkSignature(proof, checkpoint, vkeys) {
  if (!isGiven(proof)) return noProof();
  if (checkpoint.error) return notDone('there is no checkpoint whose signatures could be verified');
  if (!isGiven(vkeys)) return notDone('no verifier key is trusted yet');
  if (!Array.isArray(vkeys)) return failed(`the verifier keys are ${quote(vkeys)}, not a list`);
  if (vkeys.length === 0) return notDone('no verifier key is trusted yet');
  const { origin } = checkpoint.value;
  const signers = verifyNote(proof.checkpoint, vkeys);
  const signer = signers.find(({ name }) => name === origin);
  // A good signature by a key of another name says nothing about this log.
  const compared = { expected: origin, actual: (signer ?? signers[0]).name };
  return signer
    ? passed(`the verifier key ${quote(origin)} with key id ${signer.keyId} signed it`, compared)
    : failed(`${quote(compared.actual)} signed the checkpoint of ${quote(origin)}`, compared);
}

function noProof() {
  return notDone('there is no proof yet: no checkpoint covers the row');
}
