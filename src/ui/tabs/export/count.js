// How many rows an export would have, asked again and again while it is built.
import { getJson } from '../../api.js';
import { useInterval } from '../../parts.js';
import { useEffect, useRef, useState } from '../../preact.js';

const DEBOUNCE_MS = 250;
const AGAIN_EVERY_MS = 5000;
/** A count that takes longer is not asked for again by itself. */
const CHEAP_MS = 500;
/** Rows from which the size of all is judged. */
const SAMPLE = 20;

/**
 * The statistics of the rows that meet a filter.
 * @param {string} chain
 * @param {Record<string, string>} filters
 * @param {boolean} isOn whether the key may ask at all
 * @returns {{stats: object | null, counting: boolean, error: Error | null, isSlow: boolean,
 *   again: () => void}} `stats` has `count` and, unless that is 0, ids and times of both ends
 */
export function useCount(chain, filters, isOn) {
  const of = `${chain}?${new URLSearchParams(filters)}`;
  const [state, setState] = useState({ of: null, stats: null, error: null, ms: 0 });
  const [turn, setTurn] = useState(0);
  const asking = useRef(false);
  useEffect(() => {
    if (!isOn) return undefined;
    const stop = new AbortController();
    const ask = async () => {
      asking.current = true;
      const begun = performance.now();
      const { signal } = stop;
      const answer = await getJson(`v1/${chain}/stats`, filters, { signal })
        .then(({ groups }) => ({ stats: groups[0] ?? { count: 0 }, error: null }),
          (error) => ({ stats: null, error }));
      if (signal.aborted) return;
      asking.current = false;
      setState({ of, ...answer, ms: performance.now() - begun });
    };
    const timer = setTimeout(ask, state.of === null || state.of === of ? 0 : DEBOUNCE_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
      asking.current = false;
    };
  }, [of, isOn, turn]);
  const again = () => setTurn((had) => had + 1);
  const isSlow = state.ms > CHEAP_MS;
  useInterval(() => {
    if (isOn && !asking.current && state.of === of && !state.error && !isSlow) again();
  }, AGAIN_EVERY_MS);
  const isCurrent = state.of === of;
  return {
    stats: isCurrent ? state.stats : null, error: isCurrent ? state.error : null,
    counting: isOn && !isCurrent, isSlow, again,
  };
}

/** The newest rows that meet a filter, for a look at them and to judge the size of all. */
export async function sampleOf(chain, filters, signal) {
  return (await getJson(`v1/${chain}`, { ...filters, limit: SAMPLE }, { signal })).items;
}

const utf8 = new TextEncoder();
const lengthOf = (text) => utf8.encode(text).length;

/** A cell of CSV: quoted where it has to be. */
function cellLength(value) {
  if (value === null) return 0;
  const text = String(value);
  const quotes = text.split('"').length - 1;
  return lengthOf(text) + (/[",\r\n]/.test(text) ? quotes + 2 : 0);
}

const SIZES = {
  ndjson: (row) => lengthOf(JSON.stringify(row)) + 1,
  csv: (row) => Object.entries(row).filter(([name]) => name !== 'chain')
    .reduce((sum, [, value]) => sum + cellLength(value) + 1, 1),
};
SIZES.json = SIZES.ndjson;
SIZES.bundle = (row) => SIZES.ndjson(row) + SIZES.csv(row);

/** The size of so many rows in bytes, judged by some; of a bundle before it is compressed. */
export function estimatedSize(format, count, rows) {
  if (rows.length === 0 || !SIZES[format]) return null;
  return Math.round(rows.reduce((sum, row) => sum + SIZES[format](row), 0) / rows.length * count);
}
