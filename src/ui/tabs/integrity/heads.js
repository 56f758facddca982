// The last row of each chain, and what was recorded per day.
import { LATER, getJson } from '../../api.js';
import { chains } from '../../chains.js';
import { plusDays } from './runs.js';

/**
 * The head of each chain by its name, null where it has no row; and the log's, which is the row
 * that was appended last of all.
 */
export async function loadHeads(signal) {
  const names = chains.get().map(({ name }) => name);
  const pages = await Promise.all(
    names.map((name) => getJson(`v1/${name}`, { limit: 1 }, { signal, ...LATER })),
  );
  const heads = names.map((name, at) => [name, headOf(pages[at].items[0])]);
  const last = heads.map(([, head]) => head).filter(Boolean)
    .reduce((latest, head) => (!latest || head.leaf > latest.leaf ? head : latest), null);
  return { of: new Map(heads), log: last };
}

function headOf(row) {
  if (!row) return null;
  return { id: row.id, at: row.created_at, hash: row.row_hash, leaf: row.leaf_index };
}

/**
 * Rows recorded on each UTC day from `first` on: by the day, `{rows, chains}`, where `chains` has
 * `{count, first, last}` by the chain's name, the ids of its first and last row.
 */
export async function loadDays(first, signal) {
  const names = chains.get().map(({ name }) => name);
  const groups = await Promise.all(names.map((name) => groupsOf(name, first, signal)));
  const days = new Map();
  names.forEach((name, at) => {
    for (const { group, count, first_id: firstId, last_id: lastId } of groups[at]) {
      const day = group.slice(0, 10);
      if (!days.has(day)) days.set(day, { rows: 0, chains: new Map() });
      const found = days.get(day);
      found.rows += count;
      found.chains.set(name, { count, first: firstId, last: lastId });
    }
  });
  return days;
}

/** Without a bound the service keeps the sums; of too many days it leaves out the last. */
async function groupsOf(name, first, signal) {
  const path = `v1/${name}/stats`;
  const { groups, truncated } = await getJson(path, { group_by: 'day' }, { signal, ...LATER });
  if (!truncated) return groups;
  const from = `${first}T00:00:00.000000Z`;
  return (await getJson(path, { group_by: 'day', from }, { signal, ...LATER })).groups;
}

/** Weeks of the calendar. */
export const WEEKS = 26;

/** The days of the calendar, week by week from a Monday on; the last week is that of `today`. */
export function weeksUntil(today, weekday) {
  const first = plusDays(today, -weekday - (WEEKS - 1) * 7);
  return Array.from({ length: WEEKS }, (_, week) => (
    Array.from({ length: 7 }, (__, day) => plusDays(first, week * 7 + day))));
}
