// "Verify in this browser": every step, what was compared, and whose key signed.
import { Busy, ErrorNotice, Notice } from '../parts.js';
import { html, useEffect, useRef, useState } from '../preact.js';
import { linkTo } from '../route.js';
import { useShortcut } from '../shortcuts.js';
import { TrustedKeys, when } from './keys.js';
import { ExactText } from './text.js';
import { changeOne, gather, judge } from './verification.js';

/**
 * @param {{chain: string, id: number, shown: object}} props `shown`: the row as the page shows it
 */
export function Verifying({ chain, id, shown }) {
  const [state, setState] = useState({ busy: false });
  const stop = useRef(null);
  const box = useRef();
  useEffect(() => () => stop.current?.abort(), []);
  // Whoever asks wants to see the answer, wherever the row's page was.
  useEffect(() => {
    if (state.outcome) box.current.scrollIntoView({ block: 'nearest' });
  }, [state.outcome]);
  async function verify() {
    stop.current?.abort();
    const { signal } = stop.current = new AbortController();
    setState({ busy: true });
    try {
      const gathered = await gather(chain, id, signal);
      setState({ gathered, outcome: judge(gathered, { shown }) });
      return gathered;
    } catch (error) {
      if (!signal.aborted) setState({ error });
      return null;
    }
  }
  /** What is changed here is of course not what is shown: that is no step of it. */
  async function tryIt(change) {
    const gathered = state.gathered ?? await verify();
    if (!gathered) return;
    const changed = { ...gathered.row, [change]: changeOne(gathered.row[change]) };
    setState({ gathered, change, changed, outcome: judge(gathered, { changed }) });
  }
  /** With what was fetched already: other keys are trusted, or nothing is changed any more. */
  const again = (changed) => state.gathered && setState({
    ...state, changed, outcome: judge(state.gathered, changed ? { changed } : { shown }),
  });
  useShortcut('v', 'Verify the open row in this browser', verify);
  return html`<section class="verifying" aria-label="Verification" ref=${box}>
    <header><h3>Verification</h3><div class="actions">
      <button type="button" class="small primary" disabled=${state.busy} onClick=${verify}
        aria-keyshortcuts="v">Verify in this browser</button></div></header>
    ${!state.outcome && !state.busy && !state.error && html`<p class="muted"><small>The row is
      fetched again, hashed here, linked to the row before, and traced through the signed log. The
      service is not asked whether it is right.</small></p>`}
    ${state.busy && html`<${Busy}>Fetching and hashing…<//>`}
    <${ErrorNotice} error=${state.error} again=${verify} />
    ${state.changed && html`<${Changed} row=${state.gathered.row} changed=${state.changed}
      name=${state.change} onReset=${() => again(null)} />`}
    ${state.outcome && html`<${Outcome} outcome=${state.outcome}
      isChanged=${Boolean(state.changed)} />`}
    <${TryIt} row=${shown} busy=${state.busy} onTry=${tryIt} />
    <${TrustedKeys} onEnter=${() => again(state.changed)} onForget=${() => setState({})} />
  </section>`;
}

function Changed({ row, changed, name, onReset }) {
  return html`<${Notice} kind="warn" title="Changed in this browser only, not in the ledger">
    <p><code>${name}</code> in the copy that is verified here:</p>
    <${Compared} expected=${String(row[name])} actual=${String(changed[name])}
      names=${['in the ledger', 'in this copy']} />
    <button type="button" class="small" onClick=${onReset}>Reset</button>
  <//>`;
}

function Outcome({ outcome, isChanged }) {
  const { ok, steps, trusted } = outcome;
  const failing = steps.find((step) => step.ok === false);
  return html`<div data-outcome=${String(ok)}>
    <div role="status">
      ${ok === true && html`<${Notice} kind="ok"
        title="Verified in this browser: every step holds.">${byWhom(trusted)}<//>`}
      ${ok === false && html`<${Notice} kind="bad" title=${isChanged
        ? 'The changed copy is not what the ledger recorded.'
        : 'This row is not what the ledger recorded, or it cannot be shown to be.'}>
        <p>${failing.title}: ${failing.detail}.</p>
        ${!isChanged && !failing.advice && html`<p>Keep what is shown here, run a full check
          (<a href=${linkTo('integrity')}>Integrity Check</a>), and compare with an export or an
          anchor from before.</p>`}<//>`}
      ${ok === null && html`<${Notice} kind="none" title="Not proved yet.">${whatToDo(steps)}<//>`}
    </div>
    <ol class="steps">${steps.map((step) => html`<${Step} key=${step.name} step=${step} />`)}</ol>
  </div>`;
}

/** Whose word it is that a checkpoint is right. */
export function byWhom({ how, at }) {
  if (how === 'entered') return 'Signed by the key you entered.';
  if (how === 'seen') return `Signed by the key this browser saw first on ${when(at)}.`;
  return 'Signed by a key this browser sees for the first time: compare it with the one that '
    + 'whoever runs the service gives you (audit-ledger vkey). It is remembered from now on.';
}

function whatToDo(steps) {
  const open = steps.filter((step) => step.ok === null).map(({ name }) => name);
  if (open.includes('inclusion')) {
    return `What could be checked holds, but no checkpoint covers this row. One is signed every few
      seconds: verify again in a moment. If it stays so, the service signs none (LEDGER_SIGNING_KEY,
      LEDGER_CHECKPOINT_INTERVAL_S).`;
  }
  return 'What could be checked holds. Enter a verifier key below, and verify again.';
}

const OUTCOMES = {
  true: { sign: '✓', word: 'holds', kind: 'ok' },
  false: { sign: '✗', word: 'does not hold', kind: 'bad' },
  null: { sign: '–', word: 'could not be done', kind: 'none' },
};

function Step({ step }) {
  const { sign, word, kind } = OUTCOMES[String(step.ok)];
  return html`<li class=${kind} data-step=${step.name} data-ok=${String(step.ok)}>
    <span class="sign" aria-hidden="true">${sign}</span>
    <div><strong>${step.title}</strong><span class="off-screen"> ${word}</span>
      <p>${step.detail}</p>
      ${step.expected !== undefined && html`<${Compared} expected=${step.expected}
        actual=${step.actual} />`}
      ${step.advice && html`<p class="advice">${step.advice}</p>`}
    </div></li>`;
}

/** Two values beside each other, whole; where they differ is marked. */
function Compared({ expected, actual, names = ['has to be', 'is'] }) {
  if (expected === actual) {
    return html`<dl class="compared"><dt>both are</dt><dd>${expected}</dd></dl>`;
  }
  return html`<dl class="compared">
    <dt>${names[0]}</dt><dd><${Marked} text=${expected} other=${actual} /></dd>
    <dt>${names[1]}</dt><dd><${Marked} text=${actual} other=${expected} /></dd></dl>`;
}

/** Longer values are documents: they show what is around the first difference. */
const SHOWN_CHARS = 400;
const BEFORE_CHARS = 60;

function Marked({ text, other }) {
  let first = 0;
  while (first < text.length && text[first] === other[first]) first += 1;
  const isLong = Math.max(text.length, other.length) > SHOWN_CHARS;
  const from = isLong ? Math.max(0, first - BEFORE_CHARS) : 0;
  const to = isLong ? Math.min(text.length, from + SHOWN_CHARS) : text.length;
  const runs = [];
  for (let at = from; at < to; at += 1) {
    const differs = text[at] !== other[at];
    if (runs.at(-1)?.differs === differs) runs.at(-1).text += text[at];
    else runs.push({ differs, text: text[at] });
  }
  return html`<bdi>${from > 0 && '…'}${runs.map(({ differs, text: run }, at) => (differs
    ? html`<mark key=${at}>${run}</mark>` : html`<${ExactText} key=${at} text=${run} />`))}${
    to < text.length && '…'}</bdi>`;
}

function TryIt({ row, busy, onTry }) {
  const [name, setName] = useState('');
  return html`<details class="try">
    <summary>Try it: change one character in this browser</summary>
    <p class="muted"><small>What somebody who could write to the database might do. Nothing is
      sent: a copy in this page is changed and verified, and the ledger stays as it is.</small></p>
    <form class="row" onSubmit=${(event) => {
      event.preventDefault();
      onTry(name);
    }}>
      <label for="try-column" class="muted">Column</label>
      <select id="try-column" value=${name} onChange=${(event) => setName(event.target.value)}>
        <option value="">choose…</option>
        ${Object.keys(row).map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
      </select>
      <button type="submit" class="small" disabled=${name === '' || busy}>Change and verify</button>
    </form>
  </details>`;
}
