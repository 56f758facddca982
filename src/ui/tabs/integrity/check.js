// A check that is run from here. It outlives the tab: whoever comes back finds it where it is.
import { ApiError, events } from '../../api.js';
import * as format from '../../format.js';
import { observable, useObservable } from '../../observable.js';
import { Badge, ErrorNotice, Notice, Panel, useNow } from '../../parts.js';
import { html, useEffect, useState } from '../../preact.js';
import { linkTo, route } from '../../route.js';
import { can, session } from '../../session.js';
import { CHECKS, VERDICTS, counted, nameOfCheck } from './kinds.js';

/**
 * The check that was started here last, or null: `{kind, state, since, rows, of, findings, answer,
 * error}`. `state` is running, done, failed, or lost where the connection broke off before the end.
 */
export const check = observable(null);

let stop = null;

session.subscribe(({ key }) => {
  if (key !== null) return;
  stop?.abort();
  check.set(null);
});

/** Runs a check of this kind and follows it. */
export async function runCheck(kind) {
  stop = new AbortController();
  const { signal } = stop;
  const change = (changed) => signal.aborted || check.set({ ...check.get(), ...changed });
  check.set({
    kind, state: 'running', since: Date.now(), rows: 0, of: null, findings: 0, answer: null,
    error: null,
  });
  let isBegun = false;
  const onOpen = () => { isBegun = true; };
  const asked = { query: { kind }, method: 'POST', signal, onOpen };
  try {
    for await (const { event, data } of events('v1/integrity/checks', asked)) {
      const told = data === '' ? null : JSON.parse(data);
      if (event === 'progress') change({ rows: told.rows, of: told.of });
      if (event === 'finding') change({ findings: check.get().findings + 1 });
      if (event === 'checked') change({ state: 'done', answer: told });
      if (event === 'problem') change({ state: 'failed', error: new ApiError(told.status, told) });
    }
    if (check.get()?.state === 'running') change({ state: 'lost' });
  } catch (error) {
    if (signal.aborted) return;
    // Once it began it goes on, also where nobody tells any more.
    change(isBegun ? { state: 'lost' } : { state: 'failed', error });
  }
}

/** Chooses a check and runs it. `onEnd` is called when one ended. */
export function RunCheck({ onEnd }) {
  const current = useObservable(check);
  const [kind, setKind] = useState(current?.kind ?? 'full');
  const isRunning = current?.state === 'running';
  useEffect(() => {
    if (current && !isRunning) onEnd();
  }, [current?.state]);
  if (!can('verify')) {
    return html`<${Panel} title="Run a check">
      <p class="muted">This key cannot run checks: it has not the scope <code>verify</code>.</p>
    <//>`;
  }
  const submit = (event) => {
    event.preventDefault();
    runCheck(kind);
  };
  return html`<${Panel} title="Run a check">
    <form class="run-check" onSubmit=${submit}>
      <fieldset disabled=${isRunning}>
        <legend class="off-screen">Kind of the check</legend>
        ${CHECKS.map(({ kind: one, title, reads }) => html`<label key=${one}>
          <input type="radio" name="check-kind" value=${one} checked=${kind === one}
            onChange=${() => setKind(one)} aria-describedby=${`reads-${one}`} />
          <strong>${title}</strong> <small class="muted" id=${`reads-${one}`}>${reads}</small>
        </label>`)}
      </fieldset>
      <button type="submit" class="primary" disabled=${isRunning}>
        ${isRunning ? 'Checking…' : `Run ${nameOfCheck(kind)} check`}</button>
    </form>
    <div role="status">${current && !isRunning && html`<${Ended} check=${current} />`}</div>
    ${isRunning && html`<${Running} check=${current} />`}
  <//>`;
}

function Running({ check: { kind, since, rows, of, findings } }) {
  const now = useNow(500);
  const seconds = (now - since) / 1000;
  const rate = seconds > 0 ? rows / seconds : 0;
  const isKnown = of !== null && of > 0;
  // Too early, it says nothing.
  const left = isKnown && rate > 0 && seconds > 2 ? (of - rows) / rate * 1000 : null;
  return html`<div class="progress">
    <progress aria-label=${`Rows compared by the ${nameOfCheck(kind)} check`}
      max=${isKnown ? of : undefined} value=${isKnown ? rows : undefined} />
    <p><span>${isKnown ? `${format.count(rows)} of ${format.count(of)} rows`
      : 'Preparing: asking the anchors, opening the database…'}</span>
      ${isKnown && html`<span class="muted">${format.count(Math.round(rate))} rows/s</span>`}
      ${left !== null && html`<span class="muted">${format.duration(left)} left</span>`}
      <span class="muted">${format.duration(now - since)} so far</span>
      ${findings > 0 && html`<${Badge} kind="bad">${counted(findings, 'finding')} so far<//>`}</p>
    <small class="muted">It goes on when this page is closed.</small>
  </div>`;
}

function Ended({ check: current }) {
  const { kind, state, answer, error } = current;
  if (state === 'lost') {
    return html`<${Notice} kind="warn" title="The connection broke off before the end">
      The ${nameOfCheck(kind)} check goes on. It stands below, under “Past checks”, once it is done.
    <//>`;
  }
  if (state === 'failed') {
    return html`<${Refused} key=${current.since} kind=${kind} error=${error} />`;
  }
  const { badge, word } = VERDICTS[answer.verdict] ?? { badge: 'warn', word: answer.verdict };
  const { query } = route.get();
  const rate = answer.duration_ms > 0 ? Math.round(answer.rows / answer.duration_ms * 1000) : null;
  return html`<${Notice} kind=${badge} title=${`The ${nameOfCheck(kind)} check ended: ${word}`}>
    <p>${counted(answer.rows, 'row')} in ${format.duration(answer.duration_ms)}${
      rate !== null && answer.rows > 0 ? ` (${format.count(rate)} rows/s)` : ''}.${' '}
      <a href=${linkTo('integrity', [], { ...query, run: answer.run_id })}>Its record</a></p>
    ${answer.locked_since && html`<p><strong>The ledger is locked down.</strong></p>`}
    ${answer.notes.map((note) => html`<p key=${note}>Note: ${note}</p>`)}
  <//>`;
}

/** A check that did not begin, most often because one is running. */
function Refused({ kind, error }) {
  const [since] = useState(Date.now());
  const now = useNow(1000);
  if (error.status !== 503) {
    return html`<${ErrorNotice} error=${error} again=${() => runCheck(kind)} />`;
  }
  const left = Math.ceil((error.retryAfter ?? 0) - (now - since) / 1000);
  return html`<${Notice} kind="warn" title=${`Not checked: ${error.message}`}>
    <p>One check runs at a time; the service runs them by itself, too.${
      error.retryAfter ? ` Retry-After: ${error.retryAfter} s.` : ''}</p>
    <button type="button" class="small" disabled=${left > 0} onClick=${() => runCheck(kind)}>
      ${left > 0 ? `Try again in ${left} s` : 'Try again'}</button><//>`;
}
