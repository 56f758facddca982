// One delivery in quarantine: everything that is known of it, its bytes, and its release.
import { getJson, lockedSince } from '../api.js';
import * as format from '../format.js';
import { useObservable } from '../observable.js';
import {
  Badge, Busy, Copy, Dialog, ErrorNotice, Notice, Short, Time, useLoad,
} from '../parts.js';
import { html, useEffect, useRef, useState } from '../preact.js';
import { linkTo } from '../route.js';
import { BytesDocument } from '../row/document.js';
import { ExactText } from '../row/text.js';
import { storyLink } from '../row/values.js';
import { can, session } from '../session.js';
import { useShortcut } from '../shortcuts.js';
import { detailOf, oddsOf, reasonOf } from './reasons.js';
import { release } from './release.js';

/**
 * @param {{id: string, row: object | null, released: object | null, onClose: () => void}} props
 *   `row` where it is loaded already; `released`: what it became, where that is known
 */
export function Delivery({ id, row, released, onClose }) {
  const path = `v1/quarantined_deliveries/${encodeURIComponent(id)}`;
  const loaded = useLoad((signal) => (row ? null : getJson(path, {}, { signal })),
    [id, row === null]);
  const shown = row ?? loaded.data?.row;
  const box = useRef();
  useEffect(() => box.current.focus(), [id]);
  useShortcut('Escape', 'Close the delivery', onClose);
  return html`<section class="panel delivery" aria-labelledby="delivery-title" tabindex="-1"
    ref=${box}>
    <header><h3 id="delivery-title">Delivery ${id}</h3>
      <button type="button" class="small quiet" onClick=${onClose}>Close</button></header>
    ${!shown && loaded.error && html`<${ErrorNotice} error=${loaded.error}
      again=${loaded.reload} />`}
    ${!shown && !loaded.error && html`<${Busy} />`}
    ${shown && html`<div class="stack" key=${shown.id}>
      <${Why} row=${shown} />
      <${Release} row=${shown} released=${released} />
      <${Facts} row=${shown} />
      <${BytesDocument} key=${shown.id} name="The exact bytes" base64=${shown.body_base64}
        file=${`quarantined-delivery-${shown.id}.bin`} />
    </div>`}
  </section>`;
}

function Why({ row }) {
  const { means, helps } = reasonOf(row.reason);
  const { told } = detailOf(row.detail);
  return html`<div class="why">
    <p><strong class="mono">${row.reason}</strong> ${means}</p>
    ${told && html`<p class="told"><${ExactText} text=${told} /></p>`}
    <p class="muted">${helps}</p>
  </div>`;
}

function Facts({ row }) {
  const { sender } = detailOf(row.detail);
  return html`<dl class="facts">
    <dt>Received</dt><dd><${Time} at=${row.received_at} digits=${6} /> ${format.zoneName()}</dd>
    <dt>Source</dt><dd>${row.source}</dd>
    ${sender && html`<dt>Sender</dt><dd><${ExactText} text=${sender.recorded_by} />${
      sender.webhook_id && html`, webhook-id <code><${ExactText} text=${sender.webhook_id} /></code>`
      }</dd>`}
    <dt>From address</dt><dd class="mono">${row.source_ip}</dd>
    <dt>Authentication</dt><dd>${row.auth_method}, ${
      row.hmac_verified ? 'HMAC verified' : 'no HMAC'}</dd>
    <dt>Content type</dt><dd>${row.content_type
      ? html`<code><${ExactText} text=${row.content_type} /></code>` : 'none given'}</dd>
    ${row.duplicate_of && html`<dt>Conflicts with</dt><dd><a href=${
      storyLink(row.duplicate_of)}><${Short} text=${row.duplicate_of} /></a>
      <${Copy} text=${row.duplicate_of} what="correlation id" /></dd>`}
    <dt>In the ledger</dt><dd><a href=${linkTo('ledger', ['quarantined_deliveries'], {
      row: row.id })}>row ${row.id}</a>, leaf ${format.count(row.leaf_index)}, appended${' '}
      <${Time} at=${row.created_at} /></dd>
  </dl>`;
}

/** What was done or can be done about it. */
function Release({ row, released }) {
  const locked = useObservable(lockedSince);
  const [asks, setAsks] = useState(false);
  const [busy, setBusy] = useState(false);
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  async function act() {
    setAsks(false);
    setBusy(true);
    setError(null);
    try {
      setAnswer(await release(row.id));
    } catch (caught) {
      setError(caught);
    }
    setBusy(false);
  }
  const isLikely = !released && reasonOf(row.reason).odds === 'now';
  return html`<div class="release">
    ${answer ? html`<${Answer} answer=${answer} />`
      : released && html`<${Before} released=${released} />`}
    ${error && html`<${ErrorNotice} error=${error} />
      <p class="muted">Delivery ${row.id} stays in quarantine.</p>`}
    ${!can('admin') && !released && html`<p class="muted">A key with the scope <code>admin</code>
      ${' '}can release it.</p>`}
    ${can('admin') && !answer && html`<div class="row">
      <button type="button" class=${isLikely ? 'primary' : ''} disabled=${busy || locked !== null}
        onClick=${() => setAsks(true)}>${
          busy ? 'Releasing…' : released ? 'Release again…' : 'Release…'}</button>
      ${locked && html`<span class="muted">Not while the ledger is locked down.</span>`}
    </div>`}
    ${asks && html`<${Dialog} title=${`Release delivery ${row.id}?`}
      onClose=${() => setAsks(false)}>
      <div class="stack">
        <${WhatHappens} source=${row.source} by=${detailOf(row.detail).sender?.recorded_by} />
        <p>${released ? 'It was released before: the answer will be that it is a duplicate, and '
          + 'that is recorded, too.' : oddsOf(row.reason)}</p>
        <div class="row"><button type="button" class="primary" onClick=${act}>Release</button>
          <button type="button" onClick=${() => setAsks(false)}>Cancel</button></div>
      </div>
    <//>`}
  </div>`;
}

/** What a release does, for whoever is about to. */
export function WhatHappens({ source, by }) {
  const { holder } = session.get();
  return html`<p>The kept bytes are mapped again, as ${source
      ? html`the source <strong>${source}</strong>` : 'their source'} is set up now. If a signal can
      be made of them, it is appended to <code>signals</code>${by && html` in the name of${' '}
      <strong><${ExactText} text=${by} /></strong>`}, for good.</p>
    <p>The delivery itself stays as it is. A security event will say that${' '}
      <strong>${holder.name}</strong> released it.</p>`;
}

/** The row and the story of a signal. */
export function SignalLinks({ id, correlation }) {
  const row = linkTo('ledger', ['signals'], { row: id });
  return html`<span class="row"><a href=${row}>signal ${id}</a>
    <a href=${storyLink(correlation)}>its story</a></span>`;
}

function Answer({ answer }) {
  const { status, receipt, correlation_id: correlation } = answer;
  const isNew = status === 'recorded';
  const title = isNew ? `Recorded as signal ${receipt.id}.`
    : `A duplicate of signal ${receipt.id}, recorded before.`;
  return html`<${Notice} kind=${isNew ? 'ok' : 'info'} alert=${true} title=${title}>
    <${SignalLinks} id=${receipt.id} correlation=${correlation} />
    <dl class="facts">
      <dt>Leaf</dt><dd>${format.count(receipt.leaf_index)}</dd>
      <dt>Appended</dt><dd><${Time} at=${receipt.created_at} digits=${6} /></dd>
      <dt>Row hash</dt><dd><${Short} text=${receipt.row_hash} head=${16} tail=${8} />${' '}
        <${Copy} text=${receipt.row_hash} what="row hash" /></dd>
    </dl>
  <//>`;
}

function Before({ released }) {
  return html`<div><${Badge} kind="ok">released as signal ${released.signal_row_id}<//>${' '}
    <span class="muted">by ${released.by}, <${Time} at=${released.at} digits=${0} /></span>
    <${SignalLinks} id=${released.signal_row_id} correlation=${released.correlation_id} /></div>`;
}
