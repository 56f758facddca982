// The story of a trade: from its signal over debates and orders to fills and outcome.
import { ApiError } from './api.js';
import * as format from './format.js';
import { useContentMark } from './measure.js';
import {
  Badge, Busy, Copy, Empty, ErrorNotice, Notice, Panel, Time, useLoad,
} from './parts.js';
import { html, useEffect, useRef, useState } from './preact.js';
import { linkTo, setQuery } from './route.js';
import { RowDetail } from './row.js';
import { ExactText } from './row/text.js';
import { useShortcut } from './shortcuts.js';
import { loadStory } from './story/load.js';
import { say } from './story/say.js';
import { Status } from './tabs/ledger/trades.js';

/** Steps that are drawn at once; more when somebody asks for them. */
const STEPS_AT_ONCE = 200;

/**
 * @param {{correlationId: string, query: Record<string, string>}} props `row` of the query: the
 *   step that is open, as `chain:id`
 */
export function Story({ correlationId, query }) {
  const { data, error, loading, reload } = useLoad(
    (signal) => loadStory(correlationId, signal), [correlationId],
  );
  useContentMark('ledger', Boolean(data) || Boolean(error));
  const [, chain, id] = /^(\w+):(.+)$/s.exec(query.row ?? '') ?? [];
  const isOpenedHere = useFocus(query.row);
  return html`<div class=${`ledger ${chain ? 'columns' : ''}`}>
    <${Panel} title="Trade story" id="list-title" class="list story"
      actions=${html`<a class="button small" href=${linkTo('ledger', ['trades'])}>All trades</a>`}>
      ${error && !loading ? html`<${Missing} id=${correlationId} error=${error} again=${reload} />`
        : data ? html`<${Told} story=${data} correlationId=${correlationId} open=${query.row} />`
          : html`<${Busy}>Loading the story…<//>`}
    <//>
    ${chain && html`<${RowDetail} chain=${chain} id=${id} focus=${isOpenedHere}
      onClose=${() => setQuery({ row: null })}
      listLink=${linkTo('ledger', [chain], { row: id })} />`}
  </div>`;
}

/** Whether a step was opened here; closing it gives its link the focus back. */
function useFocus(row) {
  const had = useRef(row);
  const opened = useRef(false);
  opened.current ||= Boolean(row) && row !== had.current;
  useEffect(() => {
    if (had.current && !row) document.getElementById(`step-${had.current}`)?.focus();
    had.current = row;
  }, [row]);
  return opened.current;
}

function Missing({ id, error, again }) {
  if (!(error instanceof ApiError) || error.status !== 404) {
    return html`<${ErrorNotice} error=${error} again=${again} />`;
  }
  return html`<${Empty} title=${
    `There is no signal with the correlation id ${format.short(id, 40, 8)}.`}>
    <p>Look whether the link is whole. A producer’s record may name one that no webhook brought.</p>
    <p><a href=${linkTo('ledger', ['signal_audit_ledger'], { correlation_id: id })}>Producers’
      records with it</a> · <a href=${linkTo('ledger', ['trades'])}>All trades</a></p><//>`;
}

function Told({ story, correlationId, open }) {
  const { trade, steps, truncated, rest } = story;
  const [shown, setShown] = useState(STEPS_AT_ONCE);
  const box = useRef();
  const step = (by) => {
    const links = [...box.current.querySelectorAll('a.open')];
    const at = links.indexOf(document.activeElement);
    const from = at >= 0 ? at : links.findIndex((link) => link.closest('li.current'));
    const next = links[Math.min(links.length - 1, Math.max(0, from + by))];
    next?.focus();
  };
  useShortcut('j', 'Go to the next step', () => step(1));
  useShortcut('k', 'Go to the step before', () => step(-1));
  return html`<${Summary} trade=${trade} steps=${steps} correlationId=${correlationId} />
    ${truncated && html`<${Notice} kind="warn" title=${`Only the first ${
      format.count(steps.length)} rows of this story are told.`}>The others are listed under ${
      rest.map((name, at) => html`${at > 0 ? ', ' : ''}<a key=${name}
        href=${linkTo('ledger', [name])}>${format.words(name)}</a>`)}.<//>`}
    <h3>What happened</h3>
    <ol class="timeline" ref=${box}>${steps.slice(0, shown).map((one) => html`<${Step}
      key=${`${one.row.chain}:${one.row.id}`} step=${one} open=${open}
      correlationId=${correlationId}
      isOdd=${one.row.chain === 'order_events'
        && trade.anomalous_event_ids.includes(one.row.id)} />`)}</ol>
    ${steps.length > shown && html`<button type="button"
      onClick=${() => setShown(shown + STEPS_AT_ONCE)}>Show the next ${
      Math.min(STEPS_AT_ONCE, steps.length - shown)} of ${
      format.count(steps.length)} steps</button>`}`;
}

function Summary({ trade, steps, correlationId }) {
  /** How many of these there were, where the status beside does not say it already. */
  const count = (type) => {
    const found = steps.filter(({ row }) => row.chain === 'order_events' && row.event_type === type);
    return found.length === 1 && trade.order_status === type ? 0 : found.length;
  };
  const headline = `${trade.side} ${format.decimal(trade.quantity)} ${trade.symbol}`;
  return html`<div class="summary">
    <p class="headline"><strong><bdi><${ExactText} text=${headline} /></bdi></strong>
      at ${format.decimal(trade.price)} <${Status} trade=${trade} />
      <${Alarming} kind="bad" count=${count('KILL_SWITCH')}>KILL_SWITCH<//>
      <${Alarming} kind="warn" count=${count('REJECTED')}>REJECTED<//></p>
    ${trade.order_anomaly && html`<${Notice} kind="bad" title="A fill of this trade cannot be.">
      It came after the end of its order, or beyond what was ordered: see the marked steps.<//>`}
    <dl class="facts">
      <dt>correlation id</dt><dd><span class="mono">${correlationId}</span> <${Copy}
        text=${correlationId} what="the correlation id" /></dd>
      <dt>signal id</dt><dd><bdi><${ExactText} text=${trade.signal_id} /></bdi></dd>
      <dt>recorded</dt><dd><${Time} at=${trade.created_at} digits=${6} /> ${format.zoneName()}</dd>
      <dt>debate</dt><dd>${debateOf(trade)}</dd>
      <dt>order</dt><dd><bdi>${orderOf(trade)}</bdi></dd>
      ${trade.zar_equity !== null && html`<dt>equity</dt><dd>ZAR ${trade.zar_equity}</dd>`}
      ${trade.rejection_reason !== null && html`<dt>last reason</dt><dd><bdi><${ExactText}
        text=${trade.rejection_reason} /></bdi></dd>`}
      <dt>took</dt><dd>${format.durationOfMicros(steps.at(-1)?.since_signal_us)} from the signal to
        the last of ${format.count(steps.length)} rows</dd>
    </dl></div>`;
}

function Alarming({ kind, count, children }) {
  if (count === 0) return null;
  return html`<${Badge} kind=${kind}>${count > 1 && `${count} × `}${children}<//>`;
}

function debateOf({ models_answered: models, combined_confidence: confidence }) {
  if (models === 0) return 'no model answered';
  return `${models} ${models === 1 ? 'model' : 'models'} answered, lowest confidence ${
    format.decimal(confidence)}`;
}

function orderOf(trade) {
  if (trade.order_count === 0) return 'none was made';
  const several = trade.order_count > 1 ? `${trade.order_count} orders, the latest: ` : '';
  const { order_price: limit } = trade;
  const price = limit === null ? 'at market' : `at ${format.decimal(limit)}`;
  const order = `${trade.order_type} ${format.decimal(trade.order_quantity)} ${price}`;
  return `${several}${order}, filled ${format.decimal(trade.filled_quantity)}`;
}

function Step({ step, open, correlationId, isOdd }) {
  const { row, since_signal_us: sinceSignal, since_previous_us: sincePrevious } = step;
  const { what, says, kind = '', mark } = say(row);
  const place = `${row.chain}:${row.id}`;
  const classes = [isOdd ? 'bad' : kind, place === open && 'current',
    (isOdd || kind === 'bad' || kind === 'warn') && 'loud'];
  return html`<li class=${classes.filter(Boolean).join(' ')} data-step=${place}>
    <div class="when">
      <span>${row.chain === 'signals' ? 'signal'
        : `+${format.durationOfMicros(sinceSignal)}`}</span>
      ${sincePrevious !== null && html`<small class="muted">${
        format.durationOfMicros(sincePrevious)} later</small>`}
    </div>
    <div class="what">
      <div class="row">
        <a class="open" id=${`step-${place}`} aria-current=${place === open ? 'true' : undefined}
          href=${linkTo('ledger', ['trades', correlationId], { row: place })}>${what} <span
          class="muted">${format.words(row.chain)} ${row.id}</span></a>
        ${mark && html`<${Badge} kind=${kind}>${mark}<//>`}
        ${isOdd && html`<${Badge} kind="bad">anomaly<//>`}
      </div>
      <p><bdi><${ExactText} text=${says} /></bdi></p>
    </div></li>`;
}
