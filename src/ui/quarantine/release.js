// The way out of quarantine: one delivery after the other, in the order of the ids. A run goes on
// while another tab is looked at, and never ends halfway without saying so.
import { ApiError, getJson, postJson, sleep } from '../api.js';
import { observable } from '../observable.js';
import { session } from '../session.js';

/** Answers about the delivery itself: the next one may do better. */
const ABOUT_ONE = [400, 404, 409, 422];
/** Nobody knows whether it came to be; a release may be repeated. */
const PASSING = [0, 429, 502, 503, 504];
const TRIES = 4;
const PAGE = 1000;

/**
 * The run that is under way or was the last, or null: `{state: 'running' | 'stopped' | 'finished',
 * total, done, recorded, duplicates, skipped, refused: [{id, error}], error, at}`. `at` is the
 * delivery with which it goes on, `error` why it stopped.
 */
export const run = observable(null);
/** Told (by a new number) whenever a delivery was released. */
export const releases = observable(0);

/** What goes on with the run that stopped: the ids that are left. */
let left = null;
let stopping = null;

/** Releases one delivery. */
export async function release(id, { signal } = {}) {
  const answer = await postJson(`v1/quarantined_deliveries/${id}/release`, undefined, { signal });
  releases.set(releases.get() + 1);
  return answer;
}

/**
 * Begins a run.
 * @param {AsyncIterable<number>} ids in their order
 * @param {number} total how many there are
 */
export function begin(ids, total) {
  left = ids[Symbol.asyncIterator]();
  run.set({
    state: 'running', total, done: 0, recorded: 0, duplicates: 0, skipped: 0, refused: [],
    error: null, at: null,
  });
  return goOn();
}

/** Stops after the delivery that is under way. */
export function stop() {
  stopping?.abort();
}

const change = (changed) => run.set({ ...run.get(), ...changed });

function warnOfLeaving(event) {
  event.preventDefault();
}

/** Goes on where the run stopped. */
export async function goOn() {
  const stopped = new AbortController();
  stopping = stopped;
  change({ state: 'running', error: null });
  addEventListener('beforeunload', warnOfLeaving);
  try {
    for (;;) {
      const at = run.get().at ?? await nextId();
      if (at === null) {
        change({ state: 'finished', at: null });
        return;
      }
      change({ at });
      if (stopped.signal.aborted) {
        change({ state: 'stopped' });
        return;
      }
      await releaseOne(at, stopped.signal);
    }
  } catch (error) {
    // Signed out meanwhile, there is no run any more.
    if (run.get()) change({ state: 'stopped', error });
  } finally {
    removeEventListener('beforeunload', warnOfLeaving);
  }
}

async function nextId() {
  const { value, done } = await left.next();
  return done ? null : value;
}

async function releaseOne(id, signal) {
  for (let tries = 1; ; tries += 1) {
    try {
      const { status } = await release(id);
      const { done, recorded, duplicates } = run.get();
      change(status === 'recorded' ? { at: null, done: done + 1, recorded: recorded + 1 }
        : { at: null, done: done + 1, duplicates: duplicates + 1 });
      return;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      if (ABOUT_ONE.includes(error.status)) {
        const { done, refused } = run.get();
        change({ at: null, done: done + 1, refused: [...refused, { id, error }] });
        return;
      }
      if (!PASSING.includes(error.status) || tries === TRIES || signal.aborted) throw error;
      await sleep((error.retryAfter ?? tries) * 1000, signal);
    }
  }
}

/** Forgets a run that is over. */
export function forget() {
  run.set(null);
}

// Another key's holder does not go on with it.
session.subscribe(({ key }) => {
  if (key) return;
  stop();
  run.set(null);
});

/** These ids, in their order. */
export async function* inOrder(ids) {
  yield* [...ids].sort((one, other) => one - other);
}

/**
 * The ids of all deliveries that meet a filter, the oldest first, without those that were released
 * before: a release more would be a duplicate, and one more event.
 */
export async function* unreleased(query) {
  let released = null;
  let cursor = null;
  do {
    const asked = { ...query, order: 'asc', limit: 100, cursor };
    const page = await getJson('v1/quarantined_deliveries', asked);
    if (page.items.length > 0) {
      released ??= (await releasedSince(page.items[0].created_at, Infinity)).byId;
    }
    for (const { id } of page.items) {
      if (released.has(id)) change({ done: run.get().done + 1, skipped: run.get().skipped + 1 });
      else yield id;
    }
    cursor = page.next_cursor;
  } while (cursor);
}

/**
 * What the ledger has on record of releases since a time.
 * @param {number} maxPages of a thousand events, the latest first
 * @returns {Promise<{byId: Map<number, object>, isWhole: boolean}>} what each delivery became
 */
export async function releasedSince(from, maxPages, options) {
  const byId = new Map();
  let cursor = null;
  for (let pages = 0; pages < maxPages; pages += 1) {
    const query = { event_type: 'QUARANTINE_RELEASED', from, limit: PAGE, cursor };
    const { items, next_cursor: next } = await getJson('v1/security_events', query, options);
    for (const event of items) {
      const details = readDetails(event);
      const { actor: by, created_at: at } = event;
      // The oldest one, that made the signal, is read last.
      if (details) byId.set(details.quarantine_id, { ...details, by, at });
    }
    if (!next) return { byId, isWhole: true };
    cursor = next;
  }
  return { byId, isWhole: false };
}

function readDetails({ details_text: text }) {
  try {
    const details = JSON.parse(text);
    return Number.isInteger(details.quarantine_id) ? details : null;
  } catch {
    return null;
  }
}
