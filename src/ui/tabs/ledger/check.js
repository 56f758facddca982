// Verifying a page of rows at once: the hash of each, its link to the row before, and that the
// newest is in the signed log. Rows that are linked to it are then as they were when that was
// signed.
import { ApiError, getJson } from '../../api.js';
import { gather, judge } from '../../row/verification.js';
import { genesis, rowHash } from '../../verify.js';

/** Rows between two moments in which the page can be drawn. */
const AT_ONCE = 5;

/**
 * Verifies rows of one chain, as the page has them.
 * @param {object[]} rows at least one, in any order
 * @param {{isWhole: boolean, signal: AbortSignal, onProgress: (done: number) => void}} options
 *   `isWhole`: the rows are all there are between the first and the last, so ids may have no gap
 * @returns {Promise<{results: Map<number, {ok: boolean, isLinked: boolean, why: string}>,
 *   bad: number, linked: number, newest: {id: number, ok: boolean | null, steps: object[]}}>}
 */
export async function verifyRows(rows, { isWhole, signal, onProgress }) {
  const ordered = [...rows].sort((a, b) => a.id - b.id);
  const results = new Map();
  let before = withHash(await rowBefore(ordered[0], signal));
  for (const [at, row] of ordered.entries()) {
    const hashed = withHash(row);
    results.set(row.id, verifyOne(hashed, before, isWhole || at === 0));
    before = hashed;
    if (at % AT_ONCE === AT_ONCE - 1) {
      onProgress(at + 1);
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
    }
  }
  const last = ordered.at(-1);
  const newest = judge(await gather(last.chain, last.id, signal), { shown: last });
  const all = [...results.values()];
  return {
    results,
    bad: all.filter(({ ok }) => !ok).length,
    linked: all.filter(({ isLinked }) => isLinked).length,
    newest: { id: last.id, ...newest },
  };
}

/** The row before the first is not in the table. */
async function rowBefore(row, signal) {
  if (row.id === 1) return null;
  try {
    return (await getJson(`v1/${row.chain}/${row.id - 1}`, {}, { signal })).row;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  }
}

function withHash(row) {
  if (row === null) return null;
  try {
    return { row, hash: rowHash(row) };
  } catch (error) {
    return { row, hash: null, error: error.message };
  }
}

/** `mustLink`: the row before has to be there. */
function verifyOne({ row, hash, error }, before, mustLink) {
  const bad = (why) => ({ ok: false, isLinked: false, why });
  if (hash === null) return bad(error);
  if (hash !== row.row_hash) return bad(`its columns hash to ${hash}, which is not its row_hash`);
  if (row.id === 1) {
    const begins = row.prev_hash === genesis(row.chain);
    return begins ? linked() : bad('it does not begin at the genesis');
  }
  if (before?.row.id !== row.id - 1) {
    return mustLink ? bad(`there is no row ${row.id - 1}, and a chain has no gaps`)
      : { ok: true, isLinked: false, why: 'its hash; the row before is not in this list' };
  }
  if (before.hash !== row.prev_hash) {
    return bad(`prev_hash is not what row ${row.id - 1} hashes to: ${before.hash ?? before.error}`);
  }
  return linked();
}

function linked() {
  return { ok: true, isLinked: true, why: 'its hash, and its link to the row before' };
}
