// From the ledger to the model: the latest rows of the lists, and from there on the feed.
import { killSwitch, lookForKillSwitch } from '../../alarms.js';
import { ApiError, follow, getJson, sleep } from '../../api.js';
import { useCallback, useEffect, useMemo, useState } from '../../preact.js';
import { useInterval } from '../../parts.js';
import { FeedModel } from './model.js';

/** Rows that are there at the start. */
const AT_START = 50;
const AGAIN_AFTER_MS = 2000;

/** Whether another try would be refused, too. */
export function isFinal(error) {
  return error instanceof ApiError && [400, 401, 403, 404].includes(error.status);
}

/**
 * Follows these chains with these filters, which each of them takes.
 *
 * There is no gap between the lists and the feed: first it is asked where the log ends, the feed
 * begins behind that leaf, and the lists are asked afterwards. What comes both ways is shown once.
 * @returns {{model: FeedModel, state: 'connecting' | 'live' | 'waiting', error: Error | null,
 *   loaded: boolean, listError: Error | null, restart: () => void}}
 */
export function useFeed(chains, filters) {
  const [turn, setTurn] = useState(0);
  const key = JSON.stringify([chains, filters, turn]);
  const model = useMemo(() => new FeedModel(), [key]);
  const [known, setKnown] = useState({ key, ...NOTHING });
  useEffect(() => {
    const stop = new AbortController();
    const told = (changed) => {
      if (!stop.signal.aborted) setKnown((had) => ({ ...had, ...changed }));
    };
    setKnown({ key, ...NOTHING });
    if (chains.length > 0) new Run(chains, filters, model, stop.signal, told).start();
    return () => {
      stop.abort();
      model.close();
    };
  }, [key]);
  useInterval(() => model.tick(), 1000);
  const restart = useCallback(() => setTurn((had) => had + 1), []);
  // What is known of the feed before is not told of this one.
  return { model, ...(known.key === key ? known : NOTHING), restart };
}

const NOTHING = { state: 'connecting', error: null, loaded: false, listError: null };

class Run {
  constructor(chains, filters, model, signal, told) {
    Object.assign(this, { chains, filters, model, signal, told });
  }

  async start() {
    const end = await this.end();
    if (end === undefined || this.signal.aborted) return;
    const forget = killSwitch.subscribe(() => this.killSwitches(end));
    this.signal.addEventListener('abort', forget, { once: true });
    if (end !== null) this.lists();
    await follow('v1/feed', {
      query: { ...this.filters, chains: this.chains.join(',') },
      lastEventId: end,
      signal: this.signal,
      onEvent: (event) => {
        if (this.model.take(event)) lookForKillSwitch();
      },
      onState: (state, error = null) => {
        this.told({ state, error });
        // Where there is no leaf to go on from, what came in between is in the lists.
        if (state === 'live' && end === null) this.lists();
      },
    });
  }

  /** The last leaf of the chains, null where they have no row; undefined where that is refused. */
  async end() {
    for (;;) {
      try {
        const newest = await Promise.all(this.chains.map((chain) => this.ask(chain, { limit: 1 })));
        const leaves = newest.flat().map(({ leaf_index: leaf }) => leaf).filter(Number.isInteger);
        return leaves.length > 0 ? Math.max(...leaves) : null;
      } catch (error) {
        if (this.signal.aborted) return undefined;
        this.told({ state: 'waiting', error });
        if (isFinal(error)) return undefined;
        await sleep(AGAIN_AFTER_MS, this.signal);
        this.told({ state: 'connecting', error: null });
      }
    }
  }

  /** The latest rows of all of the chains: they are among the latest of each. */
  async lists() {
    const asked = this.chains.map((chain) => this.ask(chain, { ...this.filters, limit: AT_START }));
    const answers = await Promise.allSettled(asked);
    if (this.signal.aborted) return;
    const rows = answers.flatMap(({ value }) => value ?? []);
    rows.sort((one, other) => other.leaf_index - one.leaf_index);
    this.model.merge(rows.slice(0, AT_START));
    const listError = answers.find(({ status }) => status === 'rejected')?.reason ?? null;
    this.told({ loaded: true, listError });
  }

  /** Those that came since this began, whatever is shown besides: nobody may miss them. */
  async killSwitches(end) {
    try {
      const rows = await this.ask('order_events', { event_type: 'KILL_SWITCH', limit: 20 });
      if (this.signal.aborted) return;
      this.model.merge(rows.filter((row) => row.leaf_index > (end ?? -1)), { asNew: true });
    } catch {
      // The banner of the page tells of it.
    }
  }

  async ask(chain, query) {
    return (await getJson(`v1/${chain}`, query, { signal: this.signal })).items;
  }
}
