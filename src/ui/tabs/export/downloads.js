// Downloads by the browser itself, and what the ledger has on record of them.
import { getJson, postJson, sleep } from '../../api.js';
import { observable } from '../../observable.js';
import { can, session } from '../../session.js';

/** A link is good for a minute; a bundle may wait for a checkpoint before it begins. */
const BEGINS_WITHIN_MS = 30_000;
const LOOK_EVERY_MS = 1000;
/** A large export takes a while; it is looked for less and less often. */
const MAX_LOOK_EVERY_MS = 10_000;
const KEPT = 5;

/**
 * The last downloads, the newest first: `{at, chain, format, state, rows, bytes, sha256}`. `state`
 * is `asked`, `begun`, `complete`, or `unknown` where the ledger says nothing of it.
 */
export const downloads = observable([]);

let count = 0;

function change(at, changed) {
  downloads.set(downloads.get().map((one) => (one.at === at ? { ...one, ...changed } : one)));
}

/**
 * Asks for a link and lets the browser follow it. The link is good once, for a minute.
 * @param {string} path of the export, with its query
 * @param {{chain: string, format: string, filters: Record<string, string>}} wanted
 *   the same in parts
 */
export async function download(path, wanted) {
  const newest = can('read')
    ? (await getJson('v1/security_events', { limit: 1 })).items[0]?.id ?? 0 : null;
  const { url } = await postJson('v1/downloads', { export: path });
  const link = document.createElement('a');
  // Relative to the page, wherever a proxy serves it.
  link.href = url.replace(/^\//, '');
  link.download = '';
  document.body.append(link);
  link.click();
  link.remove();
  count += 1;
  const at = count;
  const { chain, format } = wanted;
  const one = { at, chain, format, state: newest === null ? 'unknown' : 'asked' };
  downloads.set([one, ...downloads.get()].slice(0, KEPT));
  if (newest === null) return;
  look(at, wanted, newest + 1).catch(() => change(at, { state: 'unknown' }));
}

/** Looks in the security events for the beginning and the end of a download. */
async function look(at, wanted, fromId) {
  const begun = performance.now();
  const isStillThere = () => downloads.get().some((one) => one.at === at);
  let every = LOOK_EVERY_MS / 4;
  let started = null;
  while (isStillThere()) {
    started ??= await find('EXPORT_STARTED', wanted, fromId);
    const ended = started && await find('EXPORT_COMPLETED', wanted, started.id + 1);
    if (ended) {
      const { rows, bytes, sha256 } = ended.details;
      change(at, { state: 'complete', rows, bytes, sha256, event: ended.id });
      return;
    }
    if (started) change(at, { state: 'begun', rows: started.details.rows });
    else if (performance.now() - begun > BEGINS_WITHIN_MS) {
      change(at, { state: 'unknown' });
      return;
    }
    await sleep(every);
    every = Math.min(every * 1.3, MAX_LOOK_EVERY_MS);
  }
}

async function find(type, { chain, format, filters }, fromId) {
  const { holder } = session.get();
  const { items } = await getJson('v1/security_events', {
    event_type: type, actor: holder?.name, from_id: fromId, order: 'asc', limit: 100,
  });
  const spelt = (...parts) => JSON.stringify(parts);
  const sorted = (given) => Object.entries(given ?? {}).sort();
  const asked = spelt(chain, format, sorted(filters));
  const found = items.map(({ id, subject, details_text: text }) => (
    { id, subject, details: JSON.parse(text) }));
  return found.find(({ subject, details }) => (
    spelt(subject, details.format, sorted(details.filter)) === asked)) ?? null;
}

// What another key's holder sees is theirs.
session.subscribe(({ key }) => { if (!key) downloads.set([]); });
