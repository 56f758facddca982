// A replay between the network and the page: where it is, what it has brought, and how it goes on.
import { ApiError, events } from '../../api.js';
import { observable } from '../../observable.js';

/** Rows that are kept and shown at most. */
export const KEPT = 200;
/** Rows that are drawn at once while more come; of those in between a sample is. */
const DRAWN_AT_ONCE = 20;
const DRAW_EVERY_MS = 120;
/** After so long without a row, what is shown is the latest whole again. */
const SETTLES_MS = 800;
/** Over how long the rate is taken. */
const RATE_OF_MS = 2000;
/** After so long without a pause the page gets its turn, however much waits to be read. */
const TURN_MS = 12;

/**
 * - `state`: `idle`, `connecting`, `playing`, `paused`, `ended`, `broken`
 * - `next`: the leaf with which it goes on; `last`: the leaf and time of the last row, or null
 * - `rows`: those drawn, the newest first, and whenever it stands still the latest without a gap;
 *   `count`: all that came since it was begun; `unseen`: those of them that came too fast for it
 * - `rate`: rows a second, lately; `clock`: where the ledger's time is, `{at, since, speed}`, or
 *   null
 * - `error`: why it was refused or broke off
 */
const NOTHING = {
  state: 'idle', next: 0, last: null, rows: [], count: 0, unseen: 0, rate: 0, clock: null,
  error: null,
};

const nextTurn = () => new Promise((resolve) => { setTimeout(resolve); });

/** Plays rows of the ledger again. One stream at a time is open. */
export class Player {
  shown = observable(NOTHING);
  /** The latest events, the oldest first, and how many came since the last drawing. */
  #latest = [];
  #fresh = 0;
  #next = null;
  #clock = null;
  #marks = [];
  #timer = null;
  #settling = null;
  #drawnAt = -Infinity;
  #drawingTook = 0;
  #stop = null;

  constructor(next = 0) {
    this.shown.set({ ...NOTHING, next });
  }

  get isOpen() {
    return ['connecting', 'playing'].includes(this.shown.get().state);
  }

  /**
   * Plays on from where it is.
   * @param {Record<string, string>} query chains, filters and speed
   * @param {number | null} total leaves that are known to be there: its end, where it gets there
   */
  play(query, total = null) {
    return this.#open(query, { total });
  }

  /** Fetches one row more, and pauses. */
  step(query, total = null) {
    // With the time between rows the first comes at once, and hardly anything is read behind it.
    return this.#open({ ...query, speed: '1' }, { total, most: 1 });
  }

  /** Closes the stream. What the page has not looked at yet comes again when it goes on. */
  pause() {
    this.#close();
    if (this.isOpen) this.#change({ state: 'paused', clock: null, rate: 0 });
  }

  /** Goes to a leaf. */
  seek(leaf) {
    this.#close();
    this.#latest = [];
    const { count, unseen } = this.shown.get();
    this.shown.set({ ...NOTHING, state: 'paused', next: Math.max(0, leaf), count, unseen });
  }

  /** Back to a leaf, with nothing played. */
  reset(next = 0) {
    this.#close();
    this.#latest = [];
    this.shown.set({ ...NOTHING, next });
  }

  #close() {
    this.#stop?.abort();
    this.#stop = null;
    this.#draw();
  }

  #change(changed) {
    this.shown.set({ ...this.shown.get(), ...changed });
  }

  async #open(query, { total, most = Infinity }) {
    this.#close();
    const stop = new AbortController();
    this.#stop = stop;
    this.#marks = [];
    this.#change({ state: 'connecting', error: null, clock: null, rate: 0 });
    const { next } = this.shown.get();
    const asked = { ...query, from_leaf: next };
    let [left, turn] = [most, performance.now()];
    try {
      const onOpen = () => {
        this.#marks = [{ at: performance.now(), count: this.shown.get().count }];
        if (!stop.signal.aborted) this.#change({ state: 'playing' });
      };
      const stream = events('v1/replay', { query: asked, signal: stop.signal, onOpen });
      for await (const event of stream) {
        if (stop.signal.aborted) return;
        this.#take(event, Number(query.speed));
        left -= 1;
        if (left === 0) {
          this.pause();
          return;
        }
        if (performance.now() - turn > TURN_MS) {
          await nextTurn();
          turn = performance.now();
        }
        if (stop.signal.aborted) return;
      }
      if (!stop.signal.aborted) this.#end(total);
    } catch (caught) {
      if (stop.signal.aborted) return;
      this.#close();
      const error = caught instanceof ApiError ? caught
        : new Error('The stream broke off. Resume goes on behind the last row.');
      this.#change({ state: 'broken', error, clock: null, rate: 0 });
    }
  }

  #end(total) {
    this.#close();
    const { next } = this.shown.get();
    // Rows of other chains and those that no filter lets through have been passed, too.
    this.#change({ state: 'ended', next: Math.max(next, total ?? 0), clock: null, rate: 0 });
  }

  #take({ id, event: chain, data }, speed) {
    const leaf = Number(id);
    this.#latest.push({ leaf, chain, data });
    if (this.#latest.length >= 2 * KEPT) this.#latest = this.#latest.slice(-KEPT);
    this.#fresh += 1;
    // What the log has lost comes last and has no leaf.
    if (Number.isSafeInteger(leaf)) this.#next = leaf + 1;
    if (speed > 0 && !this.#clock) {
      const at = Date.parse(JSON.parse(data).created_at);
      this.#clock = { at, since: performance.now(), speed };
    }
    if (this.#timer !== null) return;
    // Drawing may take a while, too: reading gets its share.
    const every = Math.max(DRAW_EVERY_MS, 2 * this.#drawingTook);
    const wait = Math.max(0, this.#drawnAt + every - performance.now());
    this.#timer = setTimeout(() => this.#draw(), wait);
  }

  /** Shows what came: a sample while more comes, and the latest whole once nothing does. */
  #draw(isStill = this.#stop === null) {
    clearTimeout(this.#timer);
    clearTimeout(this.#settling);
    this.#timer = null;
    if (this.#stop === null) this.#clock = null;
    else if (!isStill) this.#settling = setTimeout(() => this.#draw(true), SETTLES_MS);
    const { rows: had, count, unseen, last, next, rate } = this.shown.get();
    if (this.#fresh === 0 && !(isStill && (unseen > 0 || rate > 0))) return;
    const begun = performance.now();
    const came = this.#latest.slice(-Math.min(this.#fresh, KEPT));
    const isSampled = !isStill && came.length > DRAWN_AT_ONCE;
    const drawn = isStill ? this.#latest.slice(-KEPT)
      : came.filter((_, at) => !isSampled || at % Math.ceil(came.length / DRAWN_AT_ONCE) === 0
        || at === came.length - 1);
    const known = new Map(had.map((one) => [keyOf(one), one]));
    const more = drawn.map((one) => known.get(keyOf(one)) ?? shownOf(one)).reverse();
    const isNew = more.filter((one) => known.get(keyOf(one)) !== one).length;
    const [latest] = more;
    this.#change({
      rows: isStill ? more : [...more, ...had].slice(0, KEPT),
      count: count + this.#fresh,
      unseen: unseen + this.#fresh - isNew,
      last: this.#fresh > 0 ? { leaf: latest.leaf, at: latest.row.created_at } : last,
      next: this.#next ?? next,
      rate: isStill ? 0 : this.#rateAt(begun, count + this.#fresh),
      clock: this.#clock,
    });
    this.#fresh = 0;
    this.#next = null;
    this.#drawnAt = begun;
    requestAnimationFrame(() => setTimeout(() => {
      this.#drawnAt = performance.now();
      this.#drawingTook = this.#drawnAt - begun;
    }));
  }

  #rateAt(now, count) {
    this.#marks.push({ at: now, count });
    while (this.#marks.length > 2 && this.#marks[1].at < now - RATE_OF_MS) this.#marks.shift();
    const [first] = this.#marks;
    return now > first.at ? ((count - first.count) / (now - first.at)) * 1000 : 0;
  }
}

/** What a row is known by: its leaf, and what the log has lost by itself. */
export function keyOf({ leaf, chain, data, row }) {
  return Number.isSafeInteger(leaf) ? String(leaf) : `${chain} ${(row ?? JSON.parse(data)).id}`;
}

function shownOf({ leaf, chain, data }) {
  return { leaf, chain, row: JSON.parse(data) };
}
