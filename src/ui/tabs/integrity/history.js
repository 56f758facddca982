// The record of checks, as far back as it was asked for. It is kept while the page is there: checks
// that are on record do not change.
import { LATER, getJson } from '../../api.js';
import { observable } from '../../observable.js';
import { session } from '../../session.js';
import { dayOf, lineOf, runsOf } from './runs.js';

/** The first page is small, so that it is there at once. */
const FIRST = 100;
const PAGE = 1000;
/** Pages that are read without being asked for again. */
const PAGES_AT_ONCE = 20;

const nothing = () => ({
  runs: [], byChain: new Map(), firstSeen: new Map(), oldestDay: null, next: null, isWhole: false,
  isLoaded: false, loading: false, error: null,
});

/**
 * `runs`, the newest first; `byChain`: lines of each chain, the newest first; `firstSeen`: by
 * `finding_id`, when a check first listed it; `oldestDay`: the UTC day back to which they are
 * loaded, that one perhaps not whole; `isWhole`: whether there are none before them.
 */
export const history = observable(nothing());

/** Lines, the newest first. */
let lines = [];
/** The newest of them by their ids, as the list has them, with their findings. */
let kept = new Map();
/** By the id of a line whose findings are not kept, the cursor of its page. */
let cursors = new Map();
let turn = 0;

session.subscribe(({ key }) => {
  if (key === null) forget();
});

function forget() {
  turn += 1;
  lines = [];
  kept = new Map();
  cursors = new Map();
  history.set(nothing());
}

function publish(changed) {
  const byChain = new Map();
  for (const line of lines) {
    if (!byChain.has(line.chain)) byChain.set(line.chain, []);
    byChain.get(line.chain).push(line);
  }
  const state = { ...history.get(), ...changed };
  const runs = runsOf(lines);
  // The page may have ended in the middle of a run.
  if (!state.isWhole) runs.pop();
  const oldest = lines[lines.length - 1];
  history.set({ ...state, runs, byChain, oldestDay: oldest ? dayOf(oldest.at) : null });
}

function see(items) {
  const { firstSeen } = history.get();
  for (const check of items) {
    for (const { finding_id: id } of check.findings) {
      const had = firstSeen.get(id);
      if (!had || check.checked_at < had) firstSeen.set(id, check.checked_at);
    }
  }
}

async function pageOf(cursor, limit) {
  return getJson('v1/integrity/checks', { limit, cursor }, LATER);
}

/** Only one of what follows runs at a time; the others wait for it. */
let busy = Promise.resolve();

function oneByOne(act) {
  const mine = turn;
  const next = busy.then(() => (mine === turn ? act(() => mine === turn) : undefined));
  busy = next.catch(() => {});
  return next;
}

/** Loads what is newer than what is known. */
export function refresh() {
  return oneByOne(async (isCurrent) => {
    const known = lines[0]?.id ?? null;
    const found = [];
    let cursor = null;
    try {
      do {
        const page = await pageOf(cursor, FIRST);
        if (!isCurrent()) return;
        const newer = page.items.filter(({ id }) => known === null || id > known);
        found.push(...newer);
        cursor = newer.length === page.items.length ? page.next_cursor ?? null : null;
        if (known === null) break;
      } while (cursor !== null);
    } catch (error) {
      if (isCurrent()) history.set({ ...history.get(), error });
      return;
    }
    if (found.length === 0 && history.get().isLoaded && !history.get().error) return;
    see(found);
    for (const check of found) kept.set(check.id, check);
    lines = [...found.map(lineOf), ...lines];
    const isFirst = known === null;
    publish({
      isLoaded: true, error: null,
      ...(isFirst && { next: cursor, isWhole: cursor === null }),
    });
  });
}

/**
 * Loads older ones until this UTC day's are all there, but only so many pages at once.
 * @param {string} day
 */
export async function loadBackTo(day, pages = PAGES_AT_ONCE) {
  for (let page = 0; page < pages; page += 1) {
    if (!(await oneByOne((isCurrent) => loadPageBefore(day, isCurrent)))) return;
  }
}

/** Loads the next older page; whether there may be need of another one. */
async function loadPageBefore(day, isCurrent) {
  const state = history.get();
  if (!state.isLoaded || reaches(state, day)) return false;
  history.set({ ...state, loading: true });
  try {
    const { items, next_cursor: cursor } = await pageOf(state.next, PAGE);
    if (!isCurrent()) return false;
    see(items);
    for (const check of items) {
      if (check.findings.length > 0) cursors.set(check.id, state.next);
    }
    lines = [...lines, ...items.map(lineOf)];
    publish({ next: cursor ?? null, isWhole: !cursor, error: null, loading: false });
    return true;
  } catch (error) {
    if (isCurrent()) history.set({ ...history.get(), error, loading: false });
    return false;
  }
}

/** Whether all checks of this UTC day and of later ones are loaded. */
export function reaches({ oldestDay, isWhole, isLoaded }, day) {
  return isLoaded && (isWhole || (oldestDay !== null && oldestDay < day));
}

/** The checks of the newest run as the list has them, while their findings are kept. */
export function newestChecks() {
  const [newest] = history.get().runs;
  return newest ? newest.lines.map(({ id }) => kept.get(id)).filter(Boolean) : [];
}

/** The findings that the list of checks has for these lines, by the line's id. */
export async function findingsOf(ofLines) {
  const wanted = ofLines.filter((line) => line.findings > 0);
  const found = new Map(wanted.filter(({ id }) => kept.has(id))
    .map(({ id }) => [id, kept.get(id).findings]));
  const missing = wanted.filter(({ id }) => !found.has(id));
  for (const cursor of new Set(missing.map(({ id }) => cursors.get(id)))) {
    const { items } = await pageOf(cursor, PAGE);
    for (const { id, findings } of items) found.set(id, findings);
  }
  return new Map(wanted.map(({ id }) => [id, found.get(id) ?? []]));
}
