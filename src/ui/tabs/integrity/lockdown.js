// The lockdown: why and since when, what was done about it, and how two admins lift it.
import * as format from '../../format.js';
import { Age, Badge, Empty, ErrorNotice, Notice, Panel, Time } from '../../parts.js';
import { html, useEffect, useState } from '../../preact.js';
import { linkTo } from '../../route.js';
import { can, session } from '../../session.js';
import { focusOn } from './focus.js';
import { Pending, Request } from './lift.js';

/** A request to lift may be confirmed for so long. */
const VALID_MS = 15 * 60_000;

/**
 * The panel.
 * @param {{lockdown: {data: object, error: Error, reload: () => void}, findings: object[],
 *   onChange: () => void}} props `findings`: those that stand now
 */
export function Lockdown({ lockdown, findings, onChange }) {
  const { data, error, reload } = lockdown;
  const [isLifted, setLifted] = useState(false);
  const isOver = isLifted && data?.locked === false;
  // What had the focus is gone.
  useEffect(() => {
    if (isOver) focusOn('lockdown');
  }, [isOver]);
  const onLifted = () => {
    setLifted(true);
    onChange();
  };
  return html`<${Panel} title="Lockdown" id="lockdown" actions=${data && (data.locked
    ? html`<${Badge} kind="bad">locked down<//>` : html`<${Badge} kind="ok">not locked down<//>`)}>
    <${ErrorNotice} error=${error} again=${reload} />
    ${data && (data.locked ? html`<${InForce} lockdown=${data} findings=${findings}
      onLifted=${onLifted} onChange=${onChange} />` : html`<${Over} lockdown=${data} />`)}
  <//>`;
}

function Over({ lockdown: { steps } }) {
  if (steps.length === 0) {
    return html`<p class="muted">The ledger was never locked down. A finding in a row or in the log
      would do it, by whichever check: no service would record a row until two admins lift it.</p>`;
  }
  return html`<p role="status">The last lockdown was lifted: rows are taken again. What was kept
      meanwhile waits in${' '}
      <a href=${linkTo('ledger', ['quarantined_deliveries'], { reason: 'lockdown' })}>quarantine</a>
      ${' '}until it is released, in the order of the ids.</p>
    <${Steps} steps=${steps} />`;
}

function InForce({ lockdown, findings, onLifted, onChange }) {
  const { since, reason, steps } = lockdown;
  const open = findings.filter(({ state }) => state === 'locks');
  return html`<div class="stack">
    <dl class="facts">
      <dt>Since</dt><dd><${Time} at=${since} /> ${format.zoneName()}, <${Age} at=${since} /></dd>
      <dt>Why</dt><dd>${reason}</dd>
      <dt>Findings that lock</dt><dd>${format.count(open.length)}</dd>
      <dt>What it means</dt><dd>No signal, debate, order, event or record is taken, on every
        instance. Deliveries are kept in quarantine; reads, checks and exports go on.</dd>
    </dl>
    <h3>Steps so far</h3>
    <${Steps} steps=${steps} isReasonShown=${false} />
    <${Lift} lockdown=${lockdown} open=${open} onLifted=${onLifted} onChange=${onChange} />
  </div>`;
}

const ACTIONS = {
  ENTERED: ['bad', 'entered'], LIFT_REQUESTED: ['warn', 'lift requested'], LIFTED: ['ok', 'lifted'],
};

/** The reason of the first step stands above them where the lockdown is in force. */
function Steps({ steps, isReasonShown = true }) {
  return html`<ol class="steps" aria-label="Steps of the lockdown">${steps.map((step) => {
    const [kind, word] = ACTIONS[step.action] ?? ['none', step.action];
    const what = step.action === 'ENTERED' ? 'found' : 'acknowledged';
    return html`<li key=${step.id}><${Badge} kind=${kind}>${word}<//>
      <span><${Time} at=${step.at} digits=${0} /> ${format.zoneName()} by${' '}
        <strong>${step.actor}</strong>, ${format.count(step.findings.length)} ${what}${
          isReasonShown || step.action !== 'ENTERED' ? `: ${step.reason}` : ''}</span></li>`;
  })}</ol>`;
}

/** The requests that can still be confirmed, the newest first. */
function pendingOf({ steps }, expired) {
  return steps.filter(({ action, id }) => action === 'LIFT_REQUESTED' && !expired.includes(id))
    .map((step) => ({ ...step, until: Date.parse(step.at) + VALID_MS }))
    .filter(({ until }) => until > Date.now()).reverse();
}

function Lift({ lockdown, open, onLifted, onChange }) {
  const [expired, setExpired] = useState([]);
  const [isAsking, setAsking] = useState(false);
  const [mine, setMine] = useState(null);
  const onDone = (request) => {
    setMine(request);
    setAsking(false);
    onChange();
  };
  if (!can('admin')) {
    return html`<${Empty} title="This key cannot lift the lockdown">
      <p>It has not the scope <code>admin</code>. Two admins lift it, each with their own key.</p>
    <//>`;
  }
  const pending = pendingOf(lockdown, expired);
  const { holder } = session.get();
  const isYoung = holder.created_at && holder.created_at >= lockdown.since;
  return html`<div class="stack">
    ${isYoung && html`<${Notice} kind="warn" title="This key is younger than the lockdown">
      It can neither request nor confirm the lift: both keys must have been made before it began.
    <//>`}
    ${pending.map((request) => html`<${Pending} key=${request.id} request=${request} open=${open}
      isNew=${request.id === mine} onExpire=${() => setExpired((had) => [...had, request.id])}
      onLifted=${onLifted} onChange=${onChange} />`)}
    ${pending.length > 0 && !isAsking
      ? html`<p><button type="button" class="small" onClick=${() => setAsking(true)}>Make another
        request</button></p>`
      : html`<${Request} open=${open} onDone=${onDone} />`}
  </div>`;
}
