// Every signal and what became of it, a line each; a line leads to the story.
import { getJson } from '../../api.js';
import * as format from '../../format.js';
import { useContentMark } from '../../measure.js';
import {
  Badge, Busy, Empty, ErrorNotice, Panel, Table, Time, useLoad,
} from '../../parts.js';
import { html } from '../../preact.js';
import { setQuery } from '../../route.js';
import { ExactText } from '../../row/text.js';
import { storyLink } from '../../row/values.js';
import { useShortcut } from '../../shortcuts.js';
import { PAGE_ROWS } from './page.js';

/** @param {{query: Record<string, string>}} props */
export function TradesList({ query }) {
  const { cursor } = query;
  const { data, error, loading, reload } = useLoad(
    (signal) => getJson('v1/trades', { cursor, limit: PAGE_ROWS }, { signal }), [cursor],
  );
  const next = () => data?.next_cursor && setQuery({ cursor: data.next_cursor });
  const first = () => (cursor ? setQuery({ cursor: null }) : reload());
  useShortcut('n', 'Go to the next page', next);
  useContentMark('ledger', Boolean(data) || Boolean(error));
  return html`<div class="ledger"><${Panel} title="trades" id="list-title" class="list">
    <div class="pager row spread">
      <span class="muted">Each signal with its debates, orders and events. Open one for its
        story.</span>
      <nav class="row" aria-label="Pages">
        <button type="button" class="small" onClick=${first} disabled=${loading}>Newest</button>
        <button type="button" class="small" onClick=${next} disabled=${!data?.next_cursor}
          aria-keyshortcuts="n">Older</button>
      </nav></div>
    ${error && !loading ? html`<${ErrorNotice} error=${error} again=${reload} />
        ${cursor && html`<button type="button" class="small" onClick=${first}>Go to the
          newest</button>`}`
      : !data ? html`<${Busy}>Loading trades…<//>`
        : data.items.length === 0 ? html`<${Empty} title="There is no signal yet.">
            <p>A signed webhook to /webhook/tradingview makes the first one.</p><//>`
          : html`<div class="rows" aria-busy=${loading ? 'true' : 'false'}><${Table}
              caption="Trades" columns=${COLUMNS} rows=${data.items}
              keyOf=${(trade) => trade.signal_row_id}
              linkOf=${(trade) => storyLink(trade.correlation_id)} /></div>`}
  <//></div>`;
}

const decimal = (value) => (value === null ? html`<span class="muted">–</span>`
  : html`<span title=${value}>${format.decimal(value)}</span>`);
const text = (value) => (value === null ? html`<span class="muted">–</span>`
  : html`<bdi title=${value}><${ExactText} text=${value} /></bdi>`);

const COLUMNS = [
  { name: 'signal', title: 'signal', align: 'right', show: (trade) => String(trade.signal_row_id) },
  { name: 'created_at', title: 'created at', 
    show: (trade) => html`<${Time} at=${trade.created_at} />` },
  { name: 'symbol', title: 'symbol', show: (trade) => text(trade.symbol) },
  { name: 'side', title: 'side', show: (trade) => text(trade.side) },
  { name: 'quantity', title: 'quantity', align: 'right', show: (trade) => decimal(trade.quantity) },
  { name: 'price', title: 'price', align: 'right', show: (trade) => decimal(trade.price) },
  { name: 'models', title: 'models', align: 'right',
    show: (trade) => String(trade.models_answered) },
  { name: 'confidence', title: 'confidence', align: 'right',
    show: (trade) => decimal(trade.combined_confidence) },
  { name: 'orders', title: 'orders', align: 'right', show: (trade) => String(trade.order_count) },
  { name: 'filled', title: 'filled', align: 'right',
    show: (trade) => decimal(trade.filled_quantity) },
  { name: 'status', title: 'status', show: (trade) => html`<${Status} trade=${trade} />` },
];

/** Where the latest order of a trade stands. */
export function Status({ trade }) {
  const { order_status: status, order_anomaly: isOdd } = trade;
  const kind = { FILLED: 'ok', REJECTED: 'warn', KILL_SWITCH: 'bad' }[status] ?? 'none';
  return html`${status === null ? html`<span class="muted">no order</span>`
    : html`<${Badge} kind=${kind}>${status}<//>`}${
    isOdd && html` <${Badge} kind="bad">anomaly<//>`}`;
}
