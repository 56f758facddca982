// A whole story. The service tells of the signal, its debates, orders and their events; what
// producers recorded of the same trade, and deliveries that came for it and were kept, stand in
// chains that are asked beside.
import { getJson } from '../api.js';
import { filtersOf } from '../chains.js';

/** Chains that are asked beside, and the filter that names the signal. */
const BESIDE = [
  { chain: 'signal_audit_ledger', filter: 'correlation_id' },
  { chain: 'quarantined_deliveries', filter: 'duplicate_of' },
];
const MAX_BESIDE = 1000;

/**
 * @param {string} correlationId
 * @returns {Promise<{trade: object, steps: object[], truncated: boolean, rest: string[]}>} as
 *   `/v1/trades/{correlation_id}` answers, with every chain's rows in ledger order; `rest` has the
 *   names of chains with more rows
 */
export async function loadStory(correlationId, signal) {
  const [story, ...others] = await Promise.all([
    getJson(`v1/trades/${encodeURIComponent(correlationId)}`, {}, { signal }),
    ...BESIDE.map((which) => rowsBeside(which, correlationId, signal)),
  ]);
  const rows = new Map(story.steps.map(({ row }) => [`${row.chain}:${row.id}`, row]));
  for (const { items } of others) {
    for (const row of items) rows.set(`${row.chain}:${row.id}`, row);
  }
  const cut = others.filter(({ isCut }) => isCut).map(({ chain }) => chain);
  return {
    trade: story.trade,
    steps: stepsOf([...rows.values()].sort((a, b) => leafOf(a) - leafOf(b))),
    truncated: story.truncated || cut.length > 0,
    rest: [...story.rest.map((path) => path.split('/').pop()), ...cut],
  };
}

async function rowsBeside({ chain, filter }, correlationId, signal) {
  if (!filtersOf([chain]).some(({ name }) => name === filter)) return { chain, items: [] };
  const asked = { [filter]: correlationId, order: 'asc', limit: MAX_BESIDE };
  // What is no correlation id is refused for the story itself, and better said there.
  const found = await getJson(`v1/${chain}`, asked, { signal }).catch((error) => {
    if (error.status === 400) return { items: [], next_cursor: null };
    throw error;
  });
  return { chain, items: found.items, isCut: found.next_cursor !== null };
}

/** What the log does not have comes last, as in the service's own answer. */
function leafOf(row) {
  return Number.isSafeInteger(row.leaf_index) ? row.leaf_index : Number.MAX_SAFE_INTEGER;
}

function stepsOf(rows) {
  const start = microsOf(rows.find(({ chain }) => chain === 'signals')?.created_at);
  return rows.map((row, at) => {
    const micros = microsOf(row.created_at);
    return {
      row,
      since_signal_us: between(start, micros),
      since_previous_us: at === 0 ? null : between(microsOf(rows[at - 1].created_at), micros),
    };
  });
}

/** Microseconds since 1970, of an instant as the ledger spells it; NaN for anything else. */
function microsOf(instant) {
  const [, seconds, fraction] = /^(.{19})\.(\d{6})Z$/.exec(instant ?? '') ?? [];
  return Date.parse(`${seconds}Z`) * 1000 + Number(fraction);
}

function between(from, to) {
  return Number.isFinite(to - from) ? to - from : null;
}
