// The two keys of a lift: who requests it and says what is known, and who confirms just that.
import { ApiError, postJson } from '../../api.js';
import * as format from '../../format.js';
import { Copy, Field, Notice, Time, useNow } from '../../parts.js';
import { html, useEffect, useMemo, useRef, useState } from '../../preact.js';
import { session } from '../../session.js';
import { FindingPlace } from './findings.js';
import { consequenceOf, counted, meaningOf } from './kinds.js';

const PATH = 'v1/lockdown/lift';
const MAX_REASON = 1000;
/** A lift acknowledges at most so many; the others with the next one. */
const MAX_FINDINGS = 10_000;
/** Findings of a kind that are shown at once. */
const SHOWN = 20;

/** The first step: why, and which findings are known from now on. */
export function Request({ open, onDone }) {
  const [reason, setReason] = useState('');
  const [chosen, setChosen] = useState(new Set());
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const left = open.filter(({ finding_id: id }) => !chosen.has(id)).length;
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    setError(null);
    try {
      const known = open.map(({ finding_id: id }) => id).filter((id) => chosen.has(id));
      const { request } = await postJson(PATH, { reason: reason.trim(), findings: known });
      onDone(request);
    } catch (caught) {
      setError(caught);
      setBusy(false);
    }
  }
  return html`<form class="stack lift" onSubmit=${submit} aria-label="Request to lift the lockdown">
    <h3>Lift it, step 1 of 2: say why, and what is known</h3>
    <p class="muted">Another admin confirms it within 15 minutes with a second key. Both keys are
      older than the lockdown. Do it once the evidence is kept and the findings understood.</p>
    <${Field} id="lift-reason" label="Reason (goes on record, for ever)"
      hint=${`${reason.length} of ${format.count(MAX_REASON)} characters`}>
      <textarea id="lift-reason" rows="3" required maxlength=${MAX_REASON} value=${reason}
        placeholder="incident 7: what happened, and what was done about it"
        onInput=${(event) => setReason(event.target.value)}></textarea><//>
    ${open.length > 0 && html`<${Choice} open=${open} chosen=${chosen} onChosen=${setChosen} />`}
    ${left > 0 && html`<${Notice} kind="warn" title=${`${format.count(left)} of ${
      counted(open.length, 'finding')} ${left === 1 ? 'is' : 'are'} not acknowledged`}>
      The next check that finds ${left === 1 ? 'it' : 'them'} locks the ledger down again.<//>`}
    <${Refusal} error=${error} />
    <div><button type="submit" class="primary" disabled=${busy || reason.trim() === ''
      || chosen.size > MAX_FINDINGS}>
        Request the lift, acknowledging ${format.count(chosen.size)}</button>
      ${chosen.size > MAX_FINDINGS && html` <small>One lift acknowledges at most ${
        format.count(MAX_FINDINGS)}.</small>`}</div>
  </form>`;
}

/** Which findings are acknowledged, by their kinds. */
function Choice({ open, chosen, onChosen }) {
  const kinds = [...new Set(open.map(({ kind }) => kind))];
  const change = (findings, isOn) => {
    const next = new Set(chosen);
    for (const { finding_id: id } of findings) {
      if (isOn) next.add(id);
      else next.delete(id);
    }
    onChosen(next);
  };
  return html`<fieldset class="choice"><legend>Findings to acknowledge</legend>
    ${open.length > 1 && html`<label><input type="checkbox" checked=${chosen.size === open.length}
      onChange=${(event) => change(open, event.target.checked)} />
      ${' '}all ${format.count(open.length)} findings</label>`}
    ${kinds.map((kind) => html`<${KindChoice} key=${kind} kind=${kind} chosen=${chosen}
      onChange=${change} findings=${open.filter((finding) => finding.kind === kind)} />`)}
  </fieldset>`;
}

function KindChoice({ kind, findings, chosen, onChange }) {
  const [shown, setShown] = useState(SHOWN);
  const isAll = findings.every(({ finding_id: id }) => chosen.has(id));
  return html`<div class="kind-choice" role="group" aria-label=${kind}>
    <p class="row spread"><strong><code>${kind}</code></strong>
      ${findings.length > 1 && html`<label><input type="checkbox" checked=${isAll}
        onChange=${(event) => onChange(findings, event.target.checked)} />
        ${' '}all ${format.count(findings.length)} of this kind</label>`}</p>
    <p>${meaningOf(kind)} ${consequenceOf(kind)}</p>
    <ul>${findings.slice(0, shown).map((finding) => html`<li key=${finding.finding_id}>
      <label><input type="checkbox" checked=${chosen.has(finding.finding_id)}
        onChange=${(event) => onChange([finding], event.target.checked)} />
        <span><${FindingPlace} finding=${finding} />: ${finding.detail}</span></label></li>`)}</ul>
    ${findings.length > shown && html`<button type="button" class="small"
      onClick=${() => setShown(shown + 10 * SHOWN)}>
      Show more of ${format.count(findings.length)}</button>`}
  </div>`;
}

/** The second step, for a request that can still be confirmed. */
export function Pending({ request, open, isNew, onExpire, onLifted, onChange }) {
  const heading = useRef();
  const { holder } = session.get();
  const isMine = request.actor === holder.name;
  const now = useNow(1000);
  const left = request.until - now;
  useEffect(() => {
    if (left <= 0) onExpire();
  }, [left <= 0]);
  // The form of the first step is gone, and the focus with it.
  useEffect(() => {
    if (isNew) heading.current.focus();
  }, [isNew]);
  const known = useMemo(() => {
    const ids = new Set(request.findings);
    return open.filter(({ finding_id: id }) => ids.has(id));
  }, [open, request.id]);
  const unknown = open.length - known.length;
  return html`<section class="pending stack" aria-label=${`Request ${request.id} to lift`}>
    <h3 ref=${heading} tabindex="-1">
      Lift it, step 2 of 2: another admin confirms request ${request.id}</h3>
    <dl class="facts">
      <dt>Requested</dt><dd><${Time} at=${request.at} digits=${0} /> ${format.zoneName()} by${' '}
        <strong>${request.actor}</strong></dd>
      <dt>Reason</dt><dd>${request.reason}</dd>
      <dt>Can be confirmed for</dt><dd><span role="timer">${clock(left)}</span></dd>
      <dt>Acknowledges</dt><dd>${counted(request.findings.length, 'finding')}
        <ul>${known.slice(0, SHOWN).map((finding) => html`<li key=${finding.finding_id}>
          <code>${finding.kind}</code>${' '}
          <${FindingPlace} finding=${finding} />: ${finding.detail}</li>`)}
          ${known.length > SHOWN && html`<li>and ${format.count(known.length - SHOWN)} more</li>`}
        </ul></dd>
    </dl>
    ${unknown > 0 && html`<${Notice} kind="warn" title=${`${
      counted(unknown, 'finding that locks is', 'findings that lock are')} not among them`}>
      The next check that finds ${unknown === 1 ? 'it' : 'them'} locks the ledger down again.<//>`}
    <${Confirm} request=${request} isMine=${isMine} onLifted=${onLifted} onChange=${onChange} />
  </section>`;
}

/** Minutes and seconds that are left. */
function clock(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')} min`;
}

function Confirm({ request, isMine, onLifted, onChange }) {
  const [key, setKey] = useState('');
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const { holder } = session.get();
  async function confirm(options) {
    setBusy(true);
    setError(null);
    try {
      await postJson(PATH, { confirm: request.id }, options);
      onLifted();
    } catch (caught) {
      setError(caught);
      setBusy(false);
      onChange();
    }
  }
  function withKey(event) {
    event.preventDefault();
    const used = key.trim();
    // For this one request; it is kept nowhere.
    setKey('');
    confirm({ key: used });
  }
  return html`<div class="stack">
    ${!isMine && html`<p><button type="button" class="primary" disabled=${busy}
      onClick=${() => confirm()}>Confirm as ${holder.name}, and lift the lockdown</button></p>`}
    ${isMine && html`<p>You requested it, so somebody else confirms: the other admin opens this page
      with a key of their own (<${Copy} text=${location.href} label="Copy the link"
        what="to this page" />), or types that key here.</p>`}
    <form class="row" onSubmit=${withKey} autocomplete="off">
      <${Field} id=${`confirm-${request.id}`} label="Another admin’s key"
        hint="Used for this one request, and kept nowhere.">
        <input id=${`confirm-${request.id}`} type="password" autocomplete="off" spellcheck="false"
          placeholder="lk_…" value=${key} onInput=${(event) => setKey(event.target.value)} /><//>
      <button type="submit" disabled=${busy || key.trim() === ''}>Confirm with this key</button>
    </form>
    <${Refusal} error=${error} />
  </div>`;
}

const ADVICE = [
  ['SEC-006', /younger/, 'Use a key that was made before the lockdown began.'],
  ['SEC-006', /another admin/, 'The second key has to be another admin’s: neither the same key nor '
    + 'one of the same name.'],
  ['SEC-006', /revoked/, 'Make a new request with a key that is in force.'],
  ['SEC-006', /./, 'The key needs the scope admin.'],
  ['SEC-005', /./, 'Look at the key: it is not one of this ledger, or was revoked.'],
  ['VAL-002', /older than/, 'Make a new request: step 1 again.'],
  ['NTF-001', /not locked/, 'Somebody lifted it meanwhile.'],
  ['NTF-001', /./, 'The request is of another lockdown. Make a new one.'],
];

/** Why a step was refused, and what helps. */
function Refusal({ error }) {
  if (!error) return null;
  const advice = ADVICE.find(([code, said]) => code === error.code && said.test(error.message));
  const code = error instanceof ApiError && error.code ? `${error.code}: ` : '';
  const title = `${code}${error.message}`;
  return html`<${Notice} kind="bad" title=${title} alert=${true}>${advice?.[2]}<//>`;
}
