// The chains, the log over them and the guards: their heads, and what the last full check read.
import { chains } from '../../chains.js';
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import {
  Age, Badge, Copy, ErrorNotice, Panel, Short, Table, Time,
} from '../../parts.js';
import { html } from '../../preact.js';
import { linkTo } from '../../route.js';
import { GUARDS, LOG, lineOf } from './runs.js';

/** The table of chains. `heads` as `useLoad` has them. */
export function Chains({ integrity, heads }) {
  const described = useObservable(chains);
  const lines = new Map(integrity.last_check.map((check) => [check.chain, lineOf(check)]));
  const rows = [...described.map(({ name }) => name), LOG, GUARDS].map((name) => ({
    name, line: lines.get(name) ?? null, head: headOf(name, heads.data),
  }));
  const [first] = integrity.last_check;
  const last = first && html`<small class="muted">Last full check:${' '}
    <${Time} at=${first.checked_at} digits=${0} /> ${format.zoneName()}, ${
    format.duration(first.duration_ms)}, by ${first.checked_by} with ${first.checked_with}</small>`;
  return html`<${Panel} title="Chains" actions=${last}>
    <${ErrorNotice} error=${heads.error} again=${heads.reload} />
    <${Table} caption="Chains with their heads and their last full check" columns=${COLUMNS}
      rows=${rows} keyOf=${({ name }) => name} keys=${false} />
  <//>`;
}

/** `undefined` while it is loading. */
function headOf(name, heads) {
  if (name === GUARDS) return null;
  if (!heads) return undefined;
  return name === LOG ? heads.log && { ...heads.log, id: heads.log.leaf } : heads.of.get(name);
}

const none = html`<span class="muted">–</span>`;

function range({ line }) {
  if (!line) return none;
  return line.start === null ? none : `${format.count(line.start)} – ${format.count(line.end)}`;
}

function read({ name, line }) {
  if (!line) return none;
  const of = line.rows === line.expected ? '' : ` of ${format.count(line.expected)}`;
  return `${format.count(line.rows)}${of}${name === GUARDS ? ' objects' : ''}`;
}

/** The verdict over one chain, log or guards. */
export function LineVerdict({ line }) {
  if (!line) return html`<${Badge}>not checked<//>`;
  if (line.fresh > 0) {
    return html`<${Badge} kind=${line.chain === GUARDS ? 'warn' : 'bad'}>findings<//>`;
  }
  if (!line.finished) return html`<${Badge} kind="warn">could not finish<//>`;
  if (line.known > 0) return html`<${Badge} kind="ok">acknowledged<//>`;
  if (line.valid === null) return html`<${Badge}>nothing to read<//>`;
  return html`<${Badge} kind="ok">well<//>`;
}

function since({ name, line, head }) {
  if (name === GUARDS) return none;
  if (head === undefined) return '…';
  const before = name === LOG ? -1 : 0;
  const rows = Math.max(0, (head?.id ?? before) - (line?.end ?? before));
  return rows === 0 ? '0' : `+${format.count(rows)}`;
}

const COLUMNS = [
  { name: 'chain', title: 'Chain', show: ({ name }) => html`<strong>${name}</strong>` },
  { name: 'head', title: 'Head', align: 'right', show: ({ name, head }) => {
    if (head === undefined) return '…';
    if (head === null) return name === GUARDS ? none : 'no row';
    if (name === LOG) return html`<span title="leaf index">${format.count(head.id)}</span>`;
    return html`<a href=${linkTo('ledger', [name], { row: head.id })}>${format.count(head.id)}</a>`;
  } },
  { name: 'appended', title: 'Appended', show: ({ head }) => (
    head ? html`<${Age} at=${head.at} />` : none) },
  { name: 'hash', title: 'Head’s row_hash', show: ({ name, head }) => (head
    ? html`<${Short} text=${head.hash} />${' '}
      <${Copy} text=${head.hash} what=${`row_hash of the head of ${name}`} />`
    : none) },
  { name: 'verdict', title: 'Last full check', show: ({ line }) => html`
    <${LineVerdict} line=${line} />` },
  { name: 'range', title: 'Range', align: 'right', show: range },
  { name: 'read', title: 'Rows read', align: 'right', show: read },
  { name: 'findings', title: 'Findings', align: 'right', show: ({ line }) => (
    line ? format.count(line.findings) : none) },
  { name: 'since', title: 'Rows since', align: 'right', show: since },
];
