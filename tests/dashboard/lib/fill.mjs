// Fills a ledger through the service's own endpoints, as a desk does: signed deliveries, some of
// which cannot become a signal, and what debates, orders, events and producers add to them.
//
// What is sent is the same for the same seed, but for the producers' times, which are now: the
// ledger computes the latency of a record from them.
import { createHmac } from 'node:crypto';
import { pathToFileURL } from 'node:url';

import { hostile, hostilePayload } from './hostile.mjs';

/** Symbols of the deliveries: a price to begin with, and its digits after the point. */
const MARKETS = [
  { symbol: 'BTCUSD', price: 64250.5, digits: 2, lot: 0.125 },
  { symbol: 'ETHUSD', price: 3150.25, digits: 2, lot: 1.5 },
  { symbol: 'XAUUSD', price: 2652.1, digits: 3, lot: 4 },
  { symbol: 'USDZAR', price: 18.2345, digits: 5, lot: 10000 },
];
const MODELS = ['deepseek-r1', 'llama-3.3-70b', 'qwen-2.5-72b'];
/** Producers: what kind of signals they make of what, and how long a signal is on its way. */
const PRODUCERS = [
  { module: 'ema', types: ['ema_cross'], tickers: ['AAPL', 'MSFT', 'NVDA'], medianMs: 12 },
  { module: 'order_flow', types: ['imbalance', 'sweep'], tickers: ['ES', 'NQ'], medianMs: 4 },
  { module: 'sentiment', types: ['news', null], tickers: ['TSLA', 'AAPL'], medianMs: 900 },
  { module: 'regime', types: ['shift'], tickers: ['SPY', 'TLT', 'GLD'], medianMs: 150 },
  // Sends what it has once a day: its latencies are hours.
  { module: 'end_of_day', types: ['close'], tickers: ['BRK.B', 'SPY'], medianMs: 30_000_000 },
];
const DIRECTIONS = ['bullish', 'bearish', 'LONG', 'SHORT', 'buy', 'sell', 'flat'];
const REJECTIONS = [
  ['insufficient margin: 1250.00 USD needed, 980.15 USD free', 'MARGIN_INSUFFICIENT'],
  ['price is outside of the band of 5 %', 'PRICE_BAND'],
  ['the market is closed', '-1013'],
];

/** Small, and the same everywhere (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return {
    next,
    chance: (share) => next() < share,
    /** A whole number from `low` to `high`, both included. */
    whole: (low, high) => low + Math.floor(next() * (high - low + 1)),
    of: (list) => list[Math.floor(next() * list.length)],
    /** Around 0, mostly within -1 and 1. */
    spread: () => (next() + next() + next() - 1.5) / 0.75,
  };
}

/** Asks a service as its users do; what is answered otherwise than expected is an error. */
export class Sender {
  constructor({ url, secret, keys }) {
    this.url = url.replace(/\/$/, '');
    this.secret = secret.trim();
    this.key = (keys.ingest ?? keys.admin).trim();
  }

  async post(path, body, headers, expected) {
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    const answer = await fetch(this.url + path, { method: 'POST', body: bytes, headers });
    const text = await answer.text();
    if (!expected.includes(answer.status)) {
      throw new Error(`${path}: ${answer.status} for ${String(body).slice(0, 300)}: ${text}`);
    }
    return { status: answer.status, ...JSON.parse(text) };
  }

  /** A delivery with its right signature: an object, a text, or bytes. */
  deliver(body, expected = [201]) {
    const isText = typeof body === 'string' || body instanceof Uint8Array;
    const bytes = Buffer.from(isText ? body : JSON.stringify(body));
    const signature = createHmac('sha256', this.secret).update(bytes).digest('hex');
    const headers = { 'Content-Type': 'application/json', 'X-TradingView-Signature': signature };
    return this.post('/webhook/tradingview', bytes, headers, expected);
  }

  /** A row of a chain; returns its receipt. */
  async append(chain, row) {
    const body = JSON.stringify(row);
    return (await this.post(`/v1/${chain}`, body, this.#as('application/json'), [201])).receipt;
  }

  /** Records of producers, none of which may be refused. */
  async record(records) {
    const lines = records.map((record) => JSON.stringify(record) + '\n').join('');
    const headers = this.#as('application/x-ndjson');
    const answer = await this.post('/v1/signal_audit_ledger', lines, headers, [200, 201]);
    if (answer.refused) {
      const refusal = answer.results.find((result) => result.status === 'refused');
      throw new Error(`records are refused: ${JSON.stringify(refusal)}`);
    }
  }

  #as(type) {
    return { 'Content-Type': type, Authorization: `Bearer ${this.key}` };
  }
}

/**
 * Fills the ledger of a service `{url, secret, keys}` with about so many rows, and returns the ids
 * that tests look for. Another seed has other ids, and so can be added to the same ledger.
 */
export async function fill(service, { rows = 600, seed = 1 } = {}) {
  const desk = new Desk(new Sender(service), seed);
  const ids = { symbols: MARKETS.map(({ symbol }) => symbol), models: MODELS };
  ids.story = await desk.fullStory();
  ids.rejected = await desk.rejectedStory();
  ids.flagged = await desk.flaggedStory();
  for (let left = Math.ceil(rows / 8); left > 0; left -= 1) {
    await desk.signalWithWhatFollows();
  }
  ids.killSwitch = await desk.killSwitches();
  ids.producers = await desk.producers(Math.ceil(rows / 2), ids.story.correlation_id);
  ids.long = await desk.longIds();
  ids.extreme = await desk.extremeNumbers();
  ids.hostile = await desk.hostileRows();
  ids.quarantined = await desk.quarantine();
  return ids;
}

/** One desk: what it has sent so far, and what it sends next. */
class Desk {
  constructor(sender, seed) {
    this.sender = sender;
    this.seed = seed;
    this.random = random(seed);
    this.prices = new Map(MARKETS.map(({ symbol, price }) => [symbol, price]));
    this.signals = 0;
    this.orders = 0;
  }

  /** An id that no other seed has. */
  id(name) {
    return this.seed === 1 ? name : `${name}~${this.seed}`;
  }

  /** A delivery that becomes a signal. */
  async signal(changes = {}, market = this.random.of(MARKETS)) {
    const { symbol, digits, lot } = market;
    const price = this.prices.get(symbol) * (1 + this.random.spread() * 0.004);
    this.prices.set(symbol, price);
    this.signals += 1;
    const body = {
      signal_id: this.id(`${symbol}|15|${String(this.signals).padStart(6, "0")}`),
      symbol,
      side: this.random.of(['BUY', 'SELL', 'buy', 'sell', 'long', 'short']),
      price: price.toFixed(digits),
      quantity: String(lot * this.random.whole(1, 8)),
      strategy: this.random.of(['ema_ribbon', 'breakout', 'mean_reversion']),
      interval: '15',
      comment: 'Crossed above the 21 EMA',
      ...changes,
    };
    const { correlation_id, receipt } = await this.sender.deliver(body);
    const side = /^(buy|long)$/i.test(body.side) ? 'BUY' : 'SELL';
    const { signal_id, price: at, quantity } = body;
    return { id: receipt.id, correlation_id, signal_id, symbol: body.symbol, side,
      price: at, quantity };
  }

  debate(signal, model_name, changes = {}) {
    const is_timeout = changes.is_timeout ?? false;
    const score = this.random.whole(0, 10_000) / 10_000;
    return this.sender.append('ai_debates', {
      correlation_id: signal.correlation_id,
      model_name,
      reasoning_json: {
        verdict: score > 0.5 ? 'agree' : 'disagree',
        bull: 'Volume confirms the breakout; the higher time frame points the same way.',
        bear: 'Resistance is 0.4 % above, and funding is high.',
        weights: { trend: 0.5, volume: 0.3, news: 0.2 },
      },
      confidence_score: is_timeout ? '0' : score.toFixed(4),
      elapsed_ms: is_timeout ? 30_000 : this.random.whole(350, 9_000),
      is_timeout,
      ...changes,
    });
  }

  async order(signal, changes = {}) {
    this.orders += 1;
    const order_type = changes.order_type ?? this.random.of(['LIMIT', 'MARKET', 'STOP_LIMIT']);
    const row = {
      correlation_id: signal.correlation_id,
      order_type,
      symbol: signal.symbol,
      side: signal.side,
      quantity: signal.quantity,
      price: order_type === 'MARKET' ? null : signal.price,
      exchange_order_id: this.id(`X-${String(this.orders).padStart(8, "0")}`),
      status: 'SUBMITTED',
      ...changes,
    };
    return { ...(await this.sender.append('order_execution', row)), quantity: row.quantity };
  }

  event(order, event_type, changes = {}) {
    const order_execution_id = order?.id ?? null;
    return this.sender.append('order_events', { order_execution_id, event_type, ...changes });
  }

  fillOf(order, signal, share = 1) {
    const fill_quantity = String(Number((Number(order.quantity) * share).toFixed(8)));
    const event_type = share < 1 ? 'PARTIAL_FILL' : 'FILL';
    return this.event(order, event_type, { fill_quantity, fill_price: signal.price });
  }

  rejection(order) {
    const [rejection_reason, exchange_error_code] = this.random.of(REJECTIONS);
    return this.event(order, 'REJECTED', { rejection_reason, exchange_error_code });
  }

  /** Everything that can follow a signal, in order; the producers add their part later. */
  async fullStory() {
    const signal = await this.signal({ quantity: '0.5', side: 'BUY' }, MARKETS[0]);
    for (const model of MODELS) {
      await this.debate(signal, model, { is_timeout: model === MODELS[2] });
    }
    const order = await this.order(signal, { order_type: 'LIMIT' });
    await this.fillOf(order, signal, 0.5);
    await this.event(order, 'FILL', { fill_quantity: '0.25', fill_price: signal.price });
    return { ...signal, order_execution_id: order.id };
  }

  async rejectedStory() {
    const signal = await this.signal();
    await this.debate(signal, MODELS[0]);
    const order = await this.order(signal);
    await this.rejection(order);
    return { ...signal, order_execution_id: order.id };
  }

  /** A fill of a cancelled order: it is recorded, and flagged. */
  async flaggedStory() {
    const signal = await this.signal();
    const order = await this.order(signal, { order_type: 'LIMIT' });
    await this.event(order, 'CANCELLED');
    await this.fillOf(order, signal);
    return { ...signal, order_execution_id: order.id };
  }

  async signalWithWhatFollows() {
    const signal = await this.signal();
    if (this.random.chance(0.65)) {
      const models = MODELS.filter(() => this.random.chance(0.75));
      for (const model of models) {
        await this.debate(signal, model, { is_timeout: this.random.chance(0.05) });
      }
    }
    if (!this.random.chance(0.55)) return;
    const order = await this.order(signal);
    const what = this.random.next();
    if (what < 0.5) await this.fillOf(order, signal);
    else if (what < 0.7) {
      await this.fillOf(order, signal, 0.25);
      await this.fillOf(order, signal, 0.75);
    } else if (what < 0.85) await this.rejection(order);
    else if (what < 0.92) await this.event(order, 'CANCELLED');
    else if (what < 0.96) await this.event(order, 'EXPIRED');
  }

  /** Of an order, and of everything. */
  async killSwitches() {
    const signal = await this.signal();
    const order = await this.order(signal, { order_type: 'STOP', quantity: '2' });
    const positions_closed = [
      { symbol: 'BTCUSD', quantity: '0.375', pnl_zar: '-18250.75' },
      { symbol: 'XAUUSD', quantity: '-4', pnl_zar: '1210.00' },
    ];
    await this.event(order, 'KILL_SWITCH', { zar_equity: '1250000.00', positions_closed });
    const zar_equity = '1187304.25';
    await this.event(null, 'KILL_SWITCH', { zar_equity, positions_closed: [] });
    const rejection_reason = 'drawdown of 5 % in a day';
    const last = { zar_equity: '980000.10', positions_closed, rejection_reason };
    const { id: event_id } = await this.event(null, 'KILL_SWITCH', last);
    return { ...signal, order_execution_id: order.id, event_id };
  }

  /** So many records; outcomes stand behind their signals. */
  async producers(count, correlation_id) {
    const counts = {};
    let records = this.#storyRecords(correlation_id);
    for (let at = records.length; at < count;) {
      const producer = this.random.of(PRODUCERS);
      const number = (counts[producer.module] ?? 0) + 1;
      counts[producer.module] = number;
      const made = this.#recordsOf(producer, number);
      at += made.length;
      records.push(...made);
      // In parts, since the time on the way counts up to the arrival.
      if (records.length >= 100 || at >= count) {
        await this.sender.record(records);
        records = [];
      }
    }
    return { modules: PRODUCERS.map(({ module }) => module), counts };
  }

  /** What a producer has to say of the full story. */
  #storyRecords(correlation_id) {
    const key = { source_module: 'ema', signal_id: this.id('ema-story'), correlation_id };
    const timestamp = new Date().toISOString();
    return [
      { ...key, signal_type: 'ema_cross', ticker: 'BTCUSD', direction: 'bullish',
        conviction: '82.5', confidence: '0.91', price: '64250.5', timestamp,
        payload_json: { fast: 8, slow: 21 } },
      { ...key, record_type: 'OUTCOME', acted_upon: true, execution_id: this.id('x-story'),
        payload_json: { pnl_zar: '18250.75' } },
    ];
  }

  #recordsOf({ module, types, tickers, medianMs }, number) {
    const { chance, of, spread, whole } = this.random;
    const signal_id = this.id(`${module}-${String(number).padStart(5, "0")}`);
    // Some clocks are a little ahead.
    const latency = chance(0.02) ? -whole(1, 40) : medianMs * Math.exp(spread());
    const conviction = Math.min(100, Math.max(0, 55 + spread() * 40));
    const signal = {
      source_module: module,
      signal_id,
      signal_type: of(types),
      ticker: of(tickers),
      direction: of(DIRECTIONS),
      conviction: conviction.toFixed(4),
      confidence: chance(0.8) ? (whole(0, 10_000) / 10_000).toFixed(4) : null,
      price: chance(0.7) ? (whole(2_000, 900_000) / 100).toFixed(2) : null,
      timestamp: new Date(Date.now() - latency).toISOString(),
      payload_json: { window: whole(5, 60), features: [whole(0, 9), whole(0, 9)] },
    };
    const records = [signal];
    const outcome = { record_type: 'OUTCOME', source_module: module, signal_id };
    if (chance(0.4)) {
      const acted_upon = chance(0.6);
      const execution_id = acted_upon ? this.id(`x-${module}-${number}`) : null;
      records.push({ ...outcome, acted_upon, execution_id });
      // It became known later that it was not, after all.
      if (acted_upon && chance(0.1)) {
        const payload_json = { why: 'cancelled by the desk' };
        records.push({ ...outcome, acted_upon: false, payload_json });
      }
    }
    return records;
  }

  /** Every id as long as it may be. */
  async longIds() {
    const long = (start, length) => this.id(start).padEnd(length, '0123456789abcdef');
    const symbol = 'LONGEST.SYMBOL:12345';
    const signal = await this.signal({ signal_id: long('long-', 64), symbol });
    await this.debate(signal, long('a-model-of-a-very-long-name-', 50));
    const order = await this.order(signal, { exchange_order_id: long('exchange-', 64) });
    const timestamp = new Date().toISOString();
    const key = { source_module: long('producer_', 50), signal_id: long('record-', 64) };
    const execution_id = long('execution-', 64);
    await this.sender.record([
      { ...key, ticker: 'LONGEST.TICKER:12345', direction: 'flat', conviction: '100',
        signal_type: long('type_', 50), timestamp, execution_id, acted_upon: true },
    ]);
    return { ...signal, ...key, record_id: key.signal_id, signal_id: signal.signal_id,
      order_execution_id: order.id, execution_id };
  }

  /** What no float holds, and the least there is. */
  async extremeNumbers() {
    const price = '999999999999999999.9999999999';
    const largest = await this.signal({ price, quantity: '123456789012345678.0123456789' });
    const smallest = await this.signal({ price: '0.0000000001', quantity: '0.0000000001' });
    return { largest, smallest };
  }

  /** Texts that try to become markup, wherever a text of a sender is kept. */
  async hostileRows() {
    const { signal_id, symbol, model_name, reason, source_module, ticker } = hostile;
    const signal = await this.signal({ signal_id: this.id(signal_id), symbol, ...hostilePayload });
    await this.debate(signal, model_name, { reasoning_json: hostilePayload });
    const order = await this.order(signal, { exchange_order_id: hostile.exchange_order_id });
    const rejection = { rejection_reason: reason, exchange_error_code: hostile.error_code };
    await this.event(order, 'REJECTED', rejection);
    await this.sender.record([
      { source_module, signal_id: this.id(signal_id), ticker, direction: 'flat',
        conviction: '50', timestamp: new Date().toISOString(), signal_type: hostile.type,
        correlation_id: signal.correlation_id, payload_json: hostilePayload },
    ]);
    const text = `${JSON.stringify(hostilePayload)} and then no JSON ${this.seed}`;
    const { quarantine_id } = await this.sender.deliver(text, [422]);
    return { ...signal, order_execution_id: order.id, quarantine_id };
  }

  /** Authenticated deliveries of which no signal can be made: their ids by reason. */
  async quarantine() {
    const good = { signal_id: this.id('kept-1'), symbol: 'BTCUSD', side: 'BUY',
      price: '64250.5', quantity: '0.125' };
    const { correlation_id } = await this.sender.deliver(good);
    const text = JSON.stringify({ ...good, signal_id: this.id('kept-2') });
    const withId = (changes) => ({ ...good, signal_id: this.id('kept-3'), ...changes });
    const bodies = {
      conflicting_duplicate: { ...good, price: '64999.5' },
      malformed_json: text.slice(0, -12),
      invalid_utf8: Buffer.concat([Buffer.from(text.slice(0, 20)), Buffer.from([0xff, 0xfe, 0xc3]),
        Buffer.from(text.slice(20))]),
      missing_field: withId({ price: undefined }),
      precision_loss: withId({ price: '64250.12345678901' }),
      invalid_field: withId({ side: 'HOLD' }),
      too_long: withId({ symbol: 'A-SYMBOL-OF-MORE-THAN-20-CHARACTERS' }),
      duplicate_member: text.replace('{', '{"side":"SELL",'),
      nul_character: withId({ comment: 'before\u0000after' }),
      not_an_object: JSON.stringify(['BTCUSD', 'BUY', this.seed]),
    };
    const ids = {};
    for (const [reason, body] of Object.entries(bodies)) {
      ids[reason] = (await this.sender.deliver(body, [409, 422])).quarantine_id;
    }
    return { ...ids, duplicate_of: correlation_id };
  }
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [url, key, secret, rows = '600', seed = '1'] = process.argv.slice(2);
  if (!secret) {
    console.error('usage: node fill.mjs URL KEY SECRET [ROWS [SEED]]');
    process.exit(1);
  }
  const service = { url, secret, keys: { admin: key } };
  const ids = await fill(service, { rows: Number(rows), seed: Number(seed) });
  console.log(JSON.stringify(ids, null, 2));
}
