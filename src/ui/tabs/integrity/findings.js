// What does not add up: each kind with its meaning, each finding with its row.
import * as format from '../../format.js';
import { Badge, Copy, Panel, Short, Table, Time } from '../../parts.js';
import { html, useState } from '../../preact.js';
import { linkTo } from '../../route.js';
import { meaningOf } from './kinds.js';
import { GUARDS, LOG } from './runs.js';

/** Findings of a kind that are shown at once. */
const SHOWN = 20;

const STATES = {
  locks: ['bad', 'locks the ledger'], new: ['bad', 'not acknowledged'],
  acknowledged: ['none', 'acknowledged'], drift: ['warn', 'locks nothing'],
};

/**
 * The panel of the findings that stand now.
 * @param {{findings: object[], counted: number, history: object}} props `counted`: how many the
 *   last full check counted, listed or not
 */
export function Findings({ findings, counted, history }) {
  const unlisted = counted - findings.length;
  return html`<${Panel} title="Findings" id="findings">
    <${FindingGroups} findings=${findings} history=${history} />
    ${unlisted > 0 && html`<p class="muted">And ${format.count(unlisted)} more, which the API does
      not list: <code>audit-ledger verify --json</code> does.</p>`}
  <//>`;
}

/** Findings by their kinds. `history`: for when each was listed first. */
export function FindingGroups({ findings, history = null }) {
  const kinds = [...new Set(findings.map(({ kind }) => kind))];
  return html`<div class="stack">${kinds.map((kind) => html`<${Kind} key=${kind} kind=${kind}
    findings=${findings.filter((finding) => finding.kind === kind)} history=${history} />`)}</div>`;
}

function Kind({ kind, findings, history }) {
  const [shown, setShown] = useState(SHOWN);
  const columns = history ? [...COLUMNS, firstListed(history)] : COLUMNS;
  return html`<section class="finding-kind" aria-label=${`Findings: ${kind}`}>
    <h3><code>${kind}</code> <span class="muted">× ${format.count(findings.length)}</span></h3>
    <p>${meaningOf(kind)}</p>
    <${Table} caption=${`Findings of kind ${kind}`} columns=${columns} keys=${false}
      rows=${findings.slice(0, shown)} keyOf=${({ finding_id: id }) => id} />
    ${findings.length > shown && html`<button type="button" class="small"
      onClick=${() => setShown(shown + 10 * SHOWN)}>Show more of ${
      format.count(findings.length)}</button>`}
  </section>`;
}

/** The row that a finding is about, as a link where there is one to show. */
export function FindingPlace({ finding: { chain, id, leaf_index: leaf } }) {
  const isRow = id !== null && chain !== LOG && chain !== GUARDS;
  const behind = leaf === null ? '' : `, leaf ${format.count(leaf)}`;
  return html`<span class="nowrap">${isRow
    ? html`<a href=${linkTo('ledger', [chain], { row: id })}>${chain} row ${id}</a>`
    : `${chain}${id === null ? '' : ` row ${id}`}`}${behind}</span>`;
}

/** Whether a finding locks the ledger. */
export function FindingState({ state }) {
  const [badge, word] = STATES[state];
  return html`<${Badge} kind=${badge}>${word}<//>`;
}

const COLUMNS = [
  { name: 'place', title: 'Where', show: (finding) => html`
    <${FindingPlace} finding=${finding} />` },
  { name: 'detail', title: 'What', class: 'finding-detail', show: ({ detail }) => detail },
  { name: 'state', title: 'State', show: ({ state, acknowledged }) => html`<${FindingState}
    state=${state ?? (acknowledged ? 'acknowledged' : 'new')} />` },
  { name: 'finding_id', title: 'finding_id', show: ({ finding_id: id }) => html`
    <${Short} text=${id} /> <${Copy} text=${id} what=${`finding_id ${id.slice(0, 8)}`} />` },
];

function firstListed({ firstSeen, isWhole }) {
  const title = isWhole ? 'First listed' : 'Listed since, at least';
  return { name: 'first', title, show: ({ finding_id: id }) => html`<${Time} at=${firstSeen.get(id)}
    digits=${0} />` };
}
