// What the feed has brought, and what of it is shown. Events come as fast as the ledger takes rows;
// what is shown changes a few times a second, and is a sample where more comes than anybody reads.
import { observable } from '../../observable.js';
import { isAlarming, secondOf, sourceOf } from './event.js';

/** Rows that are kept and shown at most. */
export const KEPT = 200;
/** Rows a second that are shown, for as long as more come; a burst that fits is shown whole. */
const SHOWN_PER_SECOND = 20;
const DRAW_EVERY_MS = 250;
/** For how long a row is marked as new. */
const NEW_FOR_MS = 2000;
/** Over how many seconds the rate is taken. */
const RATE_SECONDS = 3;
/** For how long it is said that rows were left out, and over how long the share is taken. */
const TOLD_SECONDS = 5;
/** Seconds of which it is known how many rows came from where. */
export const LIVE_SECONDS = 300;

/**
 * A row that is shown: `skipped` counts those before it that are not, since the one that is shown
 * below it.
 * @typedef {{leaf: number, chain: string, row: object, alarming: boolean, skipped: number,
 *   at: number | null}} Shown
 */

/** Rows of the feed between the network and the page. */
export class FeedModel {
  /** `rows`: those shown, the newest first; `held`: how many came while it is paused. */
  shown = observable({ rows: [], held: 0, paused: false });
  /** `rate` in rows a second; `oneIn`: one of how many is shown (1: all), as of now. */
  pace = observable({ rate: 0, oneIn: 1 });
  /** Of the last minutes: per second of `created_at`, how many rows of which source. */
  seconds = new Map();
  /** The sources that brought rows since this was opened: `{chain, name}` by `chain name`. */
  sources = new Map();

  #rows = [];
  #pending = [];
  #pendingCount = 0;
  #budget = KEPT;
  #budgetAt = performance.now();
  #paused = false;
  #came = [];
  #sampledAt = -Infinity;
  #timer = null;
  #frame = null;
  #drawnAt = -Infinity;

  /** Takes an event of the feed. */
  take({ id, event: chain, data }) {
    const alarming = isAlarming(chain, data);
    this.#pending.push({ leaf: Number(id), chain, data, alarming });
    this.#pendingCount += 1;
    // Nobody draws while the page is in the background or paused.
    if (this.#pending.length >= 2 * KEPT) this.#compact();
    this.#count(chain, data);
    this.#schedule();
    return alarming;
  }

  /** Takes rows of lists, which may also have come as events. */
  merge(rows, { asNew = false } = {}) {
    const known = new Set(this.#rows.map(({ leaf }) => leaf));
    const at = asNew ? performance.now() : null;
    const more = rows.filter(({ leaf_index: leaf }) => !known.has(leaf)).map((row) => ({
      leaf: row.leaf_index, chain: row.chain, row, skipped: 0, at,
      alarming: row.chain === 'order_events' && row.event_type === 'KILL_SWITCH',
    }));
    this.#put(more);
    this.#publish();
  }

  /** Holds what comes, or shows what came. */
  pause(paused) {
    this.#paused = paused;
    if (!paused) {
      // Of what was held, the newest are shown whole.
      this.#compact();
      this.#budget = 2 * KEPT;
    }
    this.#draw();
  }

  /** Called once a second, for what changes by time alone. */
  tick() {
    const now = performance.now();
    const second = Math.floor(now / 1000);
    this.#came = this.#came.filter((one) => one.second >= second - TOLD_SECONDS);
    const whole = this.#came.filter((one) => one.second < second
      && one.second >= second - RATE_SECONDS);
    const rate = sum(whole, 'count') / RATE_SECONDS;
    const isSampled = now - this.#sampledAt < TOLD_SECONDS * 1000;
    const share = sum(this.#came, 'count') / Math.max(1, sum(this.#came, 'shown'));
    const oneIn = isSampled ? Math.max(2, Math.round(share)) : 1;
    const had = this.pace.get();
    if (had.rate !== rate || had.oneIn !== oneIn) this.pace.set({ rate, oneIn });
    this.#publish();
    const last = Math.max(0, ...this.seconds.keys());
    for (const known of this.seconds.keys()) {
      if (known < last - LIVE_SECONDS) this.seconds.delete(known);
    }
  }

  /** Draws no more. */
  close() {
    clearTimeout(this.#timer);
    cancelAnimationFrame(this.#frame);
    this.#timer = -1;
  }

  #count(chain, data) {
    this.#now().count += 1;
    const name = sourceOf(chain, data);
    const key = `${chain} ${name}`;
    if (!this.sources.has(key)) this.sources.set(key, { chain, name });
    const appended = secondOf(data);
    if (appended === null) return;
    let sources = this.seconds.get(appended);
    if (!sources) this.seconds.set(appended, sources = new Map());
    sources.set(key, (sources.get(key) ?? 0) + 1);
  }

  /** What came and was shown in this second. */
  #now() {
    const second = Math.floor(performance.now() / 1000);
    if (this.#came.at(-1)?.second !== second) this.#came.push({ second, count: 0, shown: 0 });
    return this.#came.at(-1);
  }

  /** Leaves the newest of those that wait, and what is alarming. */
  #compact() {
    const from = this.#pending.length - KEPT;
    this.#pending = this.#pending.filter(({ alarming }, at) => alarming || at >= from);
  }

  #schedule() {
    if (this.#timer !== null) return;
    const wait = Math.max(0, this.#drawnAt + DRAW_EVERY_MS - performance.now());
    this.#timer = setTimeout(() => {
      this.#frame = requestAnimationFrame(() => {
        this.#timer = null;
        this.#draw();
      });
    }, wait);
  }

  #draw() {
    const now = performance.now();
    this.#drawnAt = now;
    const earned = ((now - this.#budgetAt) / 1000) * SHOWN_PER_SECOND;
    this.#budget = Math.min(Math.max(KEPT, this.#budget), this.#budget + earned);
    this.#budgetAt = now;
    if (!this.#paused) this.#take(now);
    this.#publish();
  }

  /** Moves what came to what is shown: all of it, or so many of it as there is room for. */
  #take(now) {
    const known = new Set(this.#rows.map(({ leaf }) => leaf));
    const came = this.#pending.filter(({ leaf }) => !known.has(leaf));
    const left = this.#pendingCount - this.#pending.length;
    if (this.#pending.length === 0) return;
    const room = Math.max(1, Math.floor(this.#budget));
    const chosen = sample(came, room, left);
    this.#budget = Math.max(0, this.#budget - chosen.length);
    if (chosen.length > 0) this.#now().shown += chosen.length;
    if (chosen.some(({ skipped }) => skipped > 0)) this.#sampledAt = now;
    this.#put(chosen.map(({ event: { leaf, chain, data, alarming }, skipped }) => (
      { leaf, chain, row: JSON.parse(data), alarming, skipped, at: now })));
    this.#pending = [];
    this.#pendingCount = 0;
  }

  #put(more) {
    const rows = [...more, ...this.#rows].sort((one, other) => other.leaf - one.leaf);
    this.#rows = rows.slice(0, KEPT);
  }

  #publish() {
    const now = performance.now();
    const isOld = ({ at }) => at !== null && now - at > NEW_FOR_MS;
    if (this.#rows.some(isOld)) {
      this.#rows = this.#rows.map((row) => (isOld(row) ? { ...row, at: null } : row));
    }
    const held = this.#paused ? this.#pendingCount : 0;
    const { rows, held: hadHeld, paused } = this.shown.get();
    if (rows === this.#rows && hadHeld === held && paused === this.#paused) return;
    this.shown.set({ rows: this.#rows, held, paused: this.#paused });
  }
}

function sum(list, name) {
  return list.reduce((total, one) => total + one[name], 0);
}

/**
 * So many of the events, or all where there is room: the newest of each of as many parts as there
 * is room for, and every alarming one. `left` of them, the oldest, are not there any more.
 * @returns {{event: object, skipped: number}[]} in the events' order
 */
export function sample(events, room, left = 0) {
  const size = Math.max(1, events.length / room);
  const chosen = [];
  let skipped = left;
  let next = 1;
  events.forEach((event, at) => {
    // The last of a part of equal size; the last of all is the last of the last part.
    const isLast = at + 1 >= Math.round(next * size) || at + 1 === events.length;
    if (isLast) next += 1;
    if (isLast || event.alarming) {
      chosen.push({ event, skipped });
      skipped = 0;
    } else {
      skipped += 1;
    }
  });
  return chosen;
}
