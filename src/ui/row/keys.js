// Whose word counts: the verifier keys that this browser trusts, and the field to enter one.
import * as format from '../format.js';
import { useObservable } from '../observable.js';
import { Badge, Copy, Field } from '../parts.js';
import { html, useState } from '../preact.js';
import { enterKeys, forgetKeys, readKeys, trust } from './trust.js';

/** A day and a time, of an instant that this browser's own clock gave. */
export function when(instant) {
  return instant ? `${format.time(instant.replace(/\.(\d{3})Z$/, '.$1000Z'), { digits: 0 })} ${
    format.zoneName()}` : 'an unknown day';
}

/** @param {{onEnter: () => void, onForget: () => void}} props told when other keys are trusted */
export function TrustedKeys({ onEnter, onForget }) {
  const logs = Object.entries(useObservable(trust));
  const [text, setText] = useState('');
  const [problem, setProblem] = useState(null);
  function enter(event) {
    event.preventDefault();
    try {
      enterKeys(readKeys(text));
    } catch (error) {
      setProblem(error.message);
      return;
    }
    setText('');
    setProblem(null);
    onEnter();
  }
  return html`<details class="trust">
    <summary>Trusted verifier key: ${summaryOf(logs)}</summary>
    ${logs.map(([origin, known]) => html`<${Known} key=${origin} origin=${origin}
      known=${known} />`)}
    <form onSubmit=${enter} class="stack">
      <${Field} id="vkey" label="Verifier key that you got elsewhere" hint=${problem ? null
        : 'Of audit-ledger vkey, or the auditor’s file; one a line. This browser keeps it.'}>
        <textarea id="vkey" rows="3" class="mono" spellcheck="false" autocomplete="off"
          placeholder="name+id+key" value=${text} aria-invalid=${problem ? 'true' : undefined}
          aria-describedby=${problem ? 'vkey-problem' : undefined}
          onInput=${(event) => setText(event.target.value)}></textarea>
        ${problem && html`<small id="vkey-problem" class="problem" role="alert">${problem}</small>`}
      <//>
      <div class="row">
        <button type="submit" class="small" disabled=${text.trim() === ''}>Trust this key</button>
        ${logs.length > 0 && html`<button type="button" class="small danger" onClick=${() => {
          forgetKeys();
          onForget();
        }}>Forget all keys</button>`}
      </div>
    </form>
  </details>`;
}

function summaryOf(logs) {
  if (logs.length === 0) return 'none yet';
  const isEntered = logs.some(([, { entered }]) => entered.length > 0);
  const first = logs.find(([, { seen }]) => seen.length > 0);
  return isEntered ? 'entered by you' : `seen first on ${when(first?.[1].seen_at)} in this browser`;
}

function Known({ origin, known }) {
  const isEntered = known.entered.length > 0;
  const vkeys = isEntered ? known.entered : known.seen;
  return html`<dl class="facts small">
    <dt>log</dt><dd class="mono">${origin}</dd>
    <dt>trusted</dt><dd>${isEntered
      ? html`<${Badge} kind="ok">entered on ${when(known.entered_at)}<//>`
      : html`<${Badge} kind="warn">seen first on ${when(known.seen_at)} in this browser<//>`}</dd>
    <dt>key</dt><dd>${vkeys.map((vkey) => html`<div key=${vkey}><span class="mono">${
      vkey}</span> <${Copy} text=${vkey} what="the verifier key" /></div>`)}</dd>
  </dl>`;
}
