// Several deliveries at once: asked before, followed while it runs, accounted for at its end.
import { getJson, lockedSince } from '../api.js';
import * as format from '../format.js';
import { useObservable } from '../observable.js';
import { Dialog, ErrorNotice, Notice, useLoad } from '../parts.js';
import { html, useState } from '../preact.js';
import { linkTo, route } from '../route.js';
import { WhatHappens } from './delivery.js';
import { begin, forget, goOn, inOrder, run, stop, unreleased } from './release.js';

/** Refusals that are listed; how many there are is said in any case. */
const MAX_LISTED = 50;

/**
 * @param {{chosen: Set<number>, filter: object, newest: number, onBegin: () => void}} props
 *   `newest`: id of the newest delivery that was shown; what comes later was not looked at
 */
export function ReleaseMany({ chosen, filter, newest, onBegin }) {
  const known = useObservable(run);
  const locked = useObservable(lockedSince);
  const [asks, setAsks] = useState(null);
  const all = { ...filter, to_id: newest };
  const stats = useLoad((signal) => getJson('v1/quarantined_deliveries/stats', all, { signal }),
    [filter.reason, filter.source, newest]);
  const count = stats.data?.groups[0]?.count ?? null;
  const isRunning = known?.state === 'running';
  const act = () => {
    onBegin();
    if (asks === 'chosen') begin(inOrder(chosen), chosen.size);
    else begin(unreleased(all), count);
    setAsks(null);
  };
  return html`<div class="several">
    <div class="row">
      <button type="button" disabled=${chosen.size === 0 || isRunning || locked !== null}
        onClick=${() => setAsks('chosen')}>Release ${
          chosen.size > 0 ? `${format.count(chosen.size)} ` : ''}chosen…</button>
      <button type="button" disabled=${!count || isRunning || locked !== null}
        onClick=${() => setAsks('all')}>Release all ${
          count === null ? '' : `${format.count(count)} `}${
          filter.reason || filter.source ? 'of this filter' : 'in quarantine'}…</button>
      ${locked && html`<span class="muted">Nothing can be released while the ledger is locked
        down.</span>`}
    </div>
    ${known && html`<${Progress} known=${known} />`}
    ${asks && html`<${Dialog} title=${title(asks === 'chosen' ? chosen.size : count)}
      onClose=${() => setAsks(null)}>
      <div class="stack">
        <p>One after the other, in the order of their ids, so that their signals stand in the order
          in which the deliveries came.${
          asks === 'all' && ' Those that were released before are left out.'}</p>
        <${WhatHappens} />
        <p>One of which no signal can be made is refused, stays, and is listed; the others go on. If
          the ledger is locked down or does not answer, it stops, says so, and can go on from
          there.</p>
        <div class="row"><button type="button" class="primary" onClick=${act}>Release</button>
          <button type="button" onClick=${() => setAsks(null)}>Cancel</button></div>
      </div>
    <//>`}
  </div>`;
}

function title(count) {
  return `Release ${format.count(count)} ${count === 1 ? 'delivery' : 'deliveries'}?`;
}

const ENDS = {
  running: ['info', 'Releasing'],
  stopped: ['warn', 'Stopped halfway'],
  finished: ['ok', 'Done'],
};

function Progress({ known }) {
  const { state, total, done, recorded, duplicates, skipped, refused, error, at } = known;
  const [kind, word] = ENDS[state];
  const isOver = state !== 'running';
  const counts = [[recorded, 'recorded'], [duplicates, 'duplicates'], [refused.length, 'refused'],
    [skipped, 'released before']].filter(([count]) => count > 0);
  const sum = counts.map(([count, what]) => `${format.count(count)} ${what}`).join(', ');
  const all = Math.max(total, done);
  const isFlawed = state === 'finished' && refused.length > 0;
  return html`<${Notice} kind=${isFlawed ? 'warn' : kind} alert=${isOver}
    title=${`${word}: ${format.count(done)} of ${format.count(all)}${sum && `: ${sum}`}`}>
    <progress max=${all} value=${done} aria-label="Deliveries released"></progress>
    ${state === 'stopped' && html`<p>${at === null ? '' : `It goes on with delivery ${at}. `}Nothing
      behind it was touched.</p>`}
    ${error && html`<${ErrorNotice} error=${error} />`}
    ${refused.length > 0 && html`<${Refused} refused=${refused} />`}
    <div class="row">
      ${state === 'running' && html`<button type="button" class="small"
        onClick=${stop}>Stop</button>`}
      ${state === 'stopped' && html`<button type="button" class="small"
        onClick=${goOn}>Go on</button>`}
      ${isOver && html`<button type="button" class="small quiet"
        onClick=${forget}>Dismiss</button>`}
    </div>
  <//>`;
}

function Refused({ refused }) {
  const { tab, rest, query } = useObservable(route);
  return html`<details open=${refused.length <= 5}>
    <summary>${format.count(refused.length)} refused: these stay in quarantine</summary>
    <ul class="refused">${refused.slice(0, MAX_LISTED).map(({ id, error }) => html`<li key=${id}>
      <a href=${linkTo(tab, rest, { ...query, delivery: id })}>delivery ${id}</a>: ${
      error.code ? `${error.code}: ` : ''}${error.message}</li>`)}
    </ul>
    ${refused.length > MAX_LISTED && html`<p class="muted">…and ${
      format.count(refused.length - MAX_LISTED)} more.</p>`}
  </details>`;
}
