// One readable line for a row of each chain. What senders chose stands in <bdi>: a text from right
// to left turns nothing around it.
import * as format from './format.js';
import { html } from './preact.js';
import { detailOf } from './quarantine/reasons.js';

const SIGNS = {
  BUY: '▲', LONG: '▲', SELL: '▼', SHORT: '▼', NEUTRAL: '◆', KILL_SWITCH: '⚠',
};
const KINDS = {
  BUY: 'up', LONG: 'up', SELL: 'down', SHORT: 'down', KILL_SWITCH: 'alarm', REJECTED: 'down',
};

/** What it is, in a word: a side, a direction, a type. */
function Lead({ word }) {
  const sign = SIGNS[word] && html`<span aria-hidden="true">${SIGNS[word]}</span> `;
  return html`<strong class=${`lead ${KINDS[word] ?? ''}`}>${sign}<bdi>${word}</bdi></strong>`;
}

function isThere([, value]) {
  return value !== null && value !== undefined && value !== '';
}

/** Parts of a line, with a muted name each where that is needed. */
function parts(named) {
  return named.map(([name, value], at) => html` <span class="part" key=${at}>${
    name && html`<span class="muted">${name} </span>`}<bdi>${value}</bdi></span>`);
}

/** How much of what at which price: each a text of its own, whatever the symbol is. */
function trade({ quantity, symbol, price }) {
  return [['', format.decimal(quantity)], ['', symbol], ['@', price && format.decimal(price)]];
}

const LINES = {
  signals: (row) => [row.side, [
    ...trade(row),
    ['signal', row.signal_id],
  ]],
  signal_audit_ledger: (row) => (row.record_type === 'OUTCOME' ? ['OUTCOME', [
    ['', row.acted_upon ? 'acted upon' : 'not acted upon'],
    ['execution', row.execution_id],
    ['signal', row.signal_id],
  ]] : [row.direction, [
    ['', row.ticker],
    ['conviction', format.decimal(row.conviction)],
    ['confidence', row.confidence && format.decimal(row.confidence)],
    ['price', row.price && format.decimal(row.price)],
    ['type', row.signal_type],
    ['latency', row.latency_ms === null ? null : format.millis(row.latency_ms)],
    ['', row.acted_upon ? 'acted upon' : null],
    ['signal', row.signal_id],
  ]]),
  ai_debates: (row) => [row.is_timeout ? 'TIMEOUT' : 'DEBATE', [
    ['', row.model_name],
    ['confidence', row.is_timeout ? null : format.decimal(row.confidence_score)],
    ['took', format.duration(row.elapsed_ms)],
  ]],
  order_execution: (row) => [row.side, [
    ['', row.order_type],
    ...trade(row),
    ['', row.status],
    ['order', row.exchange_order_id],
  ]],
  order_events: (row) => [row.event_type, [
    ['', row.fill_quantity && format.decimal(row.fill_quantity)],
    ['@', row.fill_price && format.decimal(row.fill_price)],
    ['equity', row.zar_equity && `${format.decimal(row.zar_equity)} ZAR`],
    ['', row.rejection_reason],
    ['code', row.exchange_error_code],
    ['order', row.order_execution_id],
  ]],
  security_events: (row) => [row.event_type, [['by', row.actor], ['', row.subject]]],
  quarantined_deliveries: ({ reason, detail }) => ['QUARANTINED', [
    ['', reason], ['', detailOf(detail).told],
  ]],
};

/** The line of a row; of a chain that is not known here, its first columns. */
export function What({ chain, row }) {
  const [lead, all] = LINES[chain]?.(row) ?? [chain, Object.entries(row).slice(2, 8)
    .map(([name, value]) => [format.words(name), format.cell(value)])];
  const named = all.filter(isThere);
  // Whole, where the column is too narrow for it.
  const title = [lead, ...named.map((part) => part.join(' ').trim())].join(' · ');
  return html`<span class="what" title=${title}>
    <${Lead} word=${lead ?? '–'} />${parts(named)}</span>`;
}
