// Pages of a list. Cursors lead one way alone; the way back is asked for from the other end.
import { getJson } from '../../api.js';

/** Rows on a page. */
export const PAGE_ROWS = 50;

/**
 * The cursor of the page before the one that begins with this row, so that pages hang together
 * also where they were not walked through, but opened by a link.
 * @param {string} chain
 * @param {Record<string, string>} filters
 * @param {'asc' | 'desc'} order of the list
 * @param {number} first the id of the row that the page begins with
 * @returns {Promise<string | null>} null for the first page
 */
export async function cursorBefore(chain, filters, order, first, signal) {
  const isAscending = order === 'asc';
  if (isAscending && first <= 1) return null;
  const bound = isAscending ? { to_id: first - 1 } : { from_id: first + 1 };
  const { items } = await getJson(`v1/${chain}`, {
    ...filters, ...bound, order: isAscending ? 'desc' : 'asc', limit: PAGE_ROWS + 1,
  }, { signal });
  // The row that the page before begins behind.
  const behind = items[PAGE_ROWS]?.id;
  if (behind === undefined) return null;
  const { next_cursor: cursor } = await getJson(`v1/${chain}`, {
    ...filters, [isAscending ? 'from_id' : 'to_id']: behind, order, limit: 1,
  }, { signal });
  return cursor;
}
