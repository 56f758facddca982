// The record of checks: a line for each run, the newest first, and what a run found.
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import {
  Age, Badge, Busy, Copy, Dialog, Empty, ErrorNotice, Notice, Panel, Short, Table, Time, useLoad,
} from '../../parts.js';
import { html, useState } from '../../preact.js';
import { linkTo, route, setQuery } from '../../route.js';
import { LineVerdict } from './chains.js';
import { FindingGroups } from './findings.js';
import { findingsOf, history, loadBackTo, refresh } from './history.js';
import { VERDICTS, nameOfCheck } from './kinds.js';
import { GUARDS } from './runs.js';

/** Runs that are shown at once. */
const SHOWN = 20;
/** Before every ledger. */
const BEGINNING = '0000-01-01';

/** What came of a run. */
export function RunVerdict({ verdict }) {
  const { badge, word } = VERDICTS[verdict];
  return html`<${Badge} kind=${badge}>${word}<//>`;
}

/** The list. A run that the URL names is open. */
export function PastChecks() {
  const checks = useObservable(history);
  const { query } = useObservable(route);
  const [shown, setShown] = useState(SHOWN);
  const { runs, isWhole, isLoaded, loading, error } = checks;
  const older = () => {
    setShown(shown + SHOWN);
    if (shown + 2 * SHOWN > runs.length && !isWhole) loadBackTo(BEGINNING, 1);
  };
  const linkOf = ({ id }) => linkTo('integrity', [], { ...query, run: id });
  return html`<${Panel} title="Past checks" actions=${isLoaded && html`<small class="muted">${
      isWhole ? `${format.count(runs.length)} on record`
        : `${format.count(runs.length)} loaded, there are more`}</small>`}>
    <${ErrorNotice} error=${error} again=${refresh} />
    ${!isLoaded && !error && html`<${Busy}>Reading past checks…<//>`}
    ${isLoaded && runs.length === 0 && html`<${Empty} title="No check is on record">
      <p>Run one, or wait: the service checks by itself.</p><//>`}
    ${runs.length > 0 && html`<${Table} caption="Past checks" columns=${COLUMNS} linkOf=${linkOf}
      rows=${runs.slice(0, shown)} keyOf=${({ id }) => id} current=${query.run} />`}
    ${(runs.length > shown || !isWhole) && isLoaded && html`<p><button type="button" class="small"
      disabled=${loading} onClick=${older}>
      ${loading ? 'Reading…' : 'Show older checks'}</button></p>`}
    ${query.run && html`<${RunDialog} key=${query.run} id=${query.run} checks=${checks} />`}
  <//>`;
}

const COLUMNS = [
  { name: 'at', title: 'Ended', show: ({ at }) => html`<${Time} at=${at} digits=${0} />` },
  { name: 'age', title: 'Age', show: ({ at }) => html`<${Age} at=${at} />` },
  { name: 'kind', title: 'Kind', show: ({ kind }) => nameOfCheck(kind) },
  { name: 'verdict', title: 'Verdict', show: ({ verdict }) => html`
    <${RunVerdict} verdict=${verdict} />` },
  { name: 'rows', title: 'Rows read', align: 'right', show: ({ rows }) => format.count(rows) },
  { name: 'findings', title: 'Findings', align: 'right', show: ({ findings, known }) => (
    `${format.count(findings)}${known > 0 ? ` (${format.count(known)} acknowledged)` : ''}`) },
  { name: 'ms', title: 'Took', align: 'right', show: ({ ms }) => format.duration(ms) },
  { name: 'run', title: 'Run', show: ({ id }) => html`<${Short} text=${id} />` },
];

function RunDialog({ id, checks }) {
  const run = checks.runs.find((one) => one.id === id);
  const close = () => route.get().query.run === id && setQuery({ run: null }, { replace: true });
  return html`<${Dialog} title="A check" class="wide" onClose=${close}>
    ${run ? html`<${Run} run=${run} />` : html`<${Missing} checks=${checks} />`}
  <//>`;
}

function Missing({ checks: { isLoaded, isWhole, loading, oldestDay } }) {
  if (!isLoaded || loading) return html`<${Busy}>Looking for it…<//>`;
  if (isWhole) {
    return html`<${Empty} title="There is no such check">
      <p>The link may be of another ledger.</p><//>`;
  }
  return html`<${Empty} title=${`It is none of those since ${oldestDay}`}>
    <button type="button" onClick=${() => loadBackTo(BEGINNING)}>Look further back</button><//>`;
}

function Run({ run }) {
  const found = useLoad(() => (run.findings > 0 ? findingsOf(run.lines) : null), [run.id]);
  const lines = [...run.lines].reverse();
  const findings = lines.flatMap((line) => found.data?.get(line.id) ?? []);
  return html`<div class="stack">
    <dl class="facts">
      <dt>Verdict</dt><dd><${RunVerdict} verdict=${run.verdict} /></dd>
      <dt>Kind</dt><dd>${nameOfCheck(run.kind)}</dd>
      <dt>Ended</dt><dd><${Time} at=${run.at} /> ${format.zoneName()}</dd>
      <dt>Rows read</dt><dd>${format.count(run.rows)} in ${format.duration(run.ms)}</dd>
      <dt>run_id</dt><dd><code>${run.id}</code> <${Copy} text=${run.id} what="run_id" /></dd>
    </dl>
    <${Table} caption="What the check read" columns=${LINES} rows=${lines}
      keyOf=${({ chain }) => chain} keys=${false} />
    ${run.kind === 'checkpoint' && html`
      <${Notice} kind="bad" title="No checkpoint was made of this">
        What is read back before a checkpoint is recorded only where it does not add up.<//>`}
    <${ErrorNotice} error=${found.error} again=${found.reload} />
    ${run.findings > 0 && found.loading && html`<${Busy}>Loading the findings…<//>`}
    ${findings.length > 0 && html`<h3>Findings as they were then</h3>`}
    <${FindingGroups} findings=${findings} />
    ${run.findings > findings.length && found.data && html`<p class="muted">${
      format.count(run.findings - findings.length)} more are not listed by the API.</p>`}
  </div>`;
}

const LINES = [
  { name: 'chain', title: 'Chain', show: ({ chain }) => html`<strong>${chain}</strong>` },
  { name: 'verdict', title: 'Verdict', show: (line) => html`<${LineVerdict} line=${line} />` },
  { name: 'range', title: 'Range', align: 'right', show: ({ start, end }) => (
    start === null ? '–' : `${format.count(start)} – ${format.count(end)}`) },
  { name: 'expected', title: 'Must be there', align: 'right', show: ({ expected }) => (
    format.count(expected)) },
  { name: 'rows', title: 'Read', align: 'right', show: ({ rows, chain }) => (
    `${format.count(rows)}${chain === GUARDS ? ' objects' : ''}`) },
  { name: 'findings', title: 'Findings', align: 'right', show: ({ findings, known }) => (
    `${format.count(findings)}${known > 0 ? ` (${format.count(known)} acknowledged)` : ''}`) },
];
