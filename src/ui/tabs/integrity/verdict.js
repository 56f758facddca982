// What is the matter, from everything that is known of the ledger. No DOM.
import { isBad } from './kinds.js';
import { GUARDS, LOG, lineOf, runOf } from './runs.js';

/** So long may pass without any check: the service's own come every hour. */
const UNCHECKED_MS = 24 * 3600 * 1000;

/** The `finding_id`s that the last lift acknowledged. */
export function liftedBy(lockdown) {
  const lifts = (lockdown?.steps ?? []).filter(({ action }) => action === 'LIFTED');
  return new Set(lifts.flatMap(({ findings }) => findings));
}

/**
 * What the state is, and on which checks it stands.
 * @param {{integrity: object, runs: object[], newest: object | null, now: number}} known
 *   `integrity`: the answer of `/v1/integrity`; `runs`: as recorded, the newest first; `newest`:
 *   the first of them with what was acknowledged since
 * @returns {{name: string, full: object | null, last: object | null, bad: object | null,
 *   good: object | null}} `full`: the last full check; `last`: the last of any kind; `bad`: the one
 *   of them that found something; `good`: then, the last full one before that found nothing new
 */
export function judge({ integrity, runs, newest, now }) {
  const lines = integrity.last_check.map(lineOf);
  const full = lines.length > 0 ? runOf(lines) : null;
  // The list may be newer than the state, or the other way around.
  const last = newest && (!full || newest.at > full.at) ? newest : full;
  const bad = [last, full].find((run) => run && isBad(run.verdict)) ?? null;
  const good = bad || integrity.locked ? lastGoodBefore(runs, bad) : null;
  return { name: nameOf({ integrity, full, last, bad, now }), full, last, bad, good };
}

function nameOf({ integrity, full, last, bad, now }) {
  if (integrity.locked) return 'locked';
  if (bad) return bad.verdict === 'guard_drift' ? 'drift' : 'bad';
  if (!last) return 'never';
  if (last.verdict === 'unfinished') return 'unfinished';
  if (now - Date.parse(last.at) > UNCHECKED_MS) return 'old';
  if (!full || ['unfinished', 'nothing'].includes(full.verdict)) return 'partial';
  return 'well';
}

/** The last full check that found nothing new before `bad`, or before now. */
function lastGoodBefore(runs, bad) {
  const from = bad ? runs.findIndex(({ at }) => at <= bad.at) : 0;
  return runs.slice(Math.max(0, from))
    .find(({ kind, verdict }) => kind === 'full' && ['verified', 'known'].includes(verdict))
    ?? null;
}

/** Rows of chains that were appended since a check, as far as the heads are known. */
export function rowsSince(run, heads) {
  if (!run || !heads) return null;
  return run.lines.filter(({ chain }) => chain !== LOG && chain !== GUARDS)
    .reduce((total, { chain, end }) => (
      total + Math.max(0, (heads.of.get(chain)?.id ?? 0) - (end ?? 0))), 0);
}

/**
 * The findings that stand now, each once: of the last full check, of what was checked after it, and
 * those that lock the ledger. `state` is `locks`, `new`, `acknowledged` or `drift`.
 * @param {object[]} checks lines of the list of checks, the oldest first
 */
export function findingsNow(checks, lockdown) {
  const locking = new Set((lockdown?.findings ?? []).map(({ finding_id: id }) => id));
  const found = new Map();
  const listed = [...checks.flatMap(({ findings }) => findings), ...lockdown?.findings ?? []];
  for (const finding of listed) {
    found.set(finding.finding_id, { ...found.get(finding.finding_id), ...finding });
  }
  return [...found.values()].map((finding) => {
    const open = finding.chain === GUARDS ? 'drift' : 'new';
    const state = finding.acknowledged ? 'acknowledged' : open;
    return { ...finding, state: locking.has(finding.finding_id) ? 'locks' : state };
  });
}
