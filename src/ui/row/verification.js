// What has to be fetched to verify a row in the browser, and what the outcome means. No DOM.
import { ApiError, getJson } from '../api.js';
import { parseCheckpoint, verifyNote, verifyRow } from '../verify.js';
import { isNotCovered } from './proof.js';
import { keysFor, rememberFirst } from './trust.js';

/**
 * Fetches a row anew, with what it is compared with.
 * @returns {Promise<{row: object, previous?: object, isPreviousGone: boolean, proof?: object,
 *   refusal: Error | null, offered: string[]}>} `refusal`: why there is no proof, where no
 *   checkpoint is to be waited for
 */
export async function gather(chain, id, signal) {
  const rowOf = (which) => getJson(`v1/${chain}/${which}`, {}, { signal }).then(({ row }) => row);
  const row = await rowOf(id);
  const [previous, proved, integrity] = await Promise.all([
    id > 1 ? rowOf(id - 1).catch(nullWhereMissing) : undefined,
    getJson(`v1/proofs/${chain}/${id}`, {}, { signal }).then((proof) => ({ proof }), whyNoProof),
    getJson('v1/integrity', {}, { signal }),
  ]);
  return {
    row, previous: previous ?? undefined, isPreviousGone: previous === null,
    proof: proved.proof, refusal: proved.refusal ?? null,
    offered: integrity.checkpoint?.vkeys ?? [],
  };
}

function nullWhereMissing(error) {
  if (error instanceof ApiError && error.status === 404) return null;
  throw error;
}

function whyNoProof(error) {
  if (isNotCovered(error)) return {};
  // What was signed and what is stored differ, for example: that is an answer, too.
  if (error instanceof ApiError && error.status >= 400) return { refusal: error };
  throw error;
}

/**
 * Verifies what was gathered.
 * @param {object} gathered
 * @param {{shown?: object, changed?: object}} how `shown`: the row as the page shows it; `changed`:
 *   a row that is verified in place of the one that was fetched
 * @returns {{ok: boolean | null, steps: object[], trusted: object | null, origin: string | null}}
 */
export function judge(gathered, { shown, changed } = {}) {
  const { row, previous, proof, offered } = gathered;
  const origin = originOf(proof);
  const trusted = origin === null ? null : keysFor(origin, offered);
  const vkeys = trusted?.vkeys ?? [];
  const { steps } = verifyRow({ row: changed ?? row, previous, proof, vkeys, shown });
  for (const step of steps) {
    if (step.name === 'link') markGap(step, gathered);
    if (step.name === 'inclusion' && gathered.refusal) markRefusal(step, gathered.refusal);
    if (step.name === 'signature' && step.ok === false) step.advice = adviceOn(trusted);
  }
  const outcomes = steps.map((step) => step.ok);
  const ok = outcomes.includes(false) ? false : outcomes.includes(null) ? null : true;
  // Only what is good in every step is worth remembering.
  if (ok && !changed && trusted.how === 'first') {
    rememberFirst(origin, verifyNote(proof.checkpoint, vkeys).map(({ text }) => text));
  }
  return { ok, steps, trusted, origin };
}

function originOf(proof) {
  try {
    return parseCheckpoint(proof.checkpoint).origin;
  } catch {
    return null;
  }
}

/** A chain's ids have no gap, so the row before has to be there. */
function markGap(step, { row, isPreviousGone }) {
  if (!isPreviousGone) return;
  step.ok = false;
  step.detail = `there is no row ${row.id - 1}, and a chain has no gaps`;
}

function markRefusal(step, refusal) {
  step.ok = false;
  const code = refusal.code ? `${refusal.code}: ` : '';
  step.detail = `the service gives no proof: ${code}${refusal.message}`;
}

const BY = {
  entered: 'the key that was entered here',
  seen: 'the key that this browser saw first',
};

function adviceOn(trusted) {
  if (trusted?.how === 'other') {
    return 'This browser knows keys of another log alone. If the service was exchanged, or its log '
      + 'began anew, get the key from whoever runs it (audit-ledger vkey) and enter it below.';
  }
  if (!trusted || !BY[trusted.how]) {
    return 'Get the key from whoever runs the service (audit-ledger vkey) and enter it below.';
  }
  return `It has to be signed by ${BY[trusted.how]}. While a key is replaced, both sign for a `
    + 'while; after that, get the new one from whoever runs the service (audit-ledger vkey) and enter '
    + 'it below. Where no key was replaced, somebody else signed this.';
}

/** One character of a value changed, in a way that its kind of value may have. */
export function changeOne(value) {
  if (value === null) return 'x';
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'number') return value + 1;
  const at = /[0-9a-zA-Z](?=[^0-9a-zA-Z]*$)/.exec(value)?.index ?? -1;
  if (at < 0) return `${value}x`;
  // Of base64, the last character may hold bits that have to be zero; any before it may be any.
  const place = at > 0 && /^[0-9A-Za-z+/]+=*$/.test(value) ? 0 : at;
  const had = value[place];
  const letter = had.toLowerCase() === 'a' ? 'b' : 'a';
  const next = /\d/.test(had) ? String((Number(had) + 1) % 10) : letter;
  return value.slice(0, place) + next + value.slice(place + 1);
}
