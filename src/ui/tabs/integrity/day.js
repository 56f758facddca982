// One UTC day: its checks, and when its rows were last read by any check.
import * as format from '../../format.js';
import { Empty, Table, Time } from '../../parts.js';
import { html } from '../../preact.js';
import { linkTo, route } from '../../route.js';
import { counted, nameOfCheck } from './kinds.js';
import { RunVerdict } from './past.js';
import { DAYS, countOf, lastRead } from './runs.js';

const LONG = new Intl.DateTimeFormat('en-GB', {
  weekday: 'long', day: 'numeric', month: 'long', year: 'numeric', timeZone: 'UTC',
});

/** A day for people: `Sunday 22 November 2026`. */
export function titleOfDay(day) {
  return LONG.format(new Date(`${day}T00:00:00Z`)).replaceAll(',', '');
}

/** A day that was chosen. `byChain`: lines of the list of checks by chain, the newest first. */
export function Day({ day, state, runs, rows, chains, byChain }) {
  const read = [...chains].map(([name, ids]) => (
    { name, ...ids, ...lastRead(byChain.get(name) ?? [], ids.first, ids.last) }));
  return html`<section class="day-shown" aria-labelledby="day-title">
    <h3 id="day-title">${titleOfDay(day)} (UTC)</h3>
    <p><span class=${`day is-${state}`} aria-hidden="true">${DAYS[state].sign}</span>${' '}
      ${DAYS[state].means}.${' '}${counted(rows, 'row was', 'rows were')} recorded.</p>
    ${rows > 0 && html`<p id="last-read">${sayLastRead(read)}</p>
      <${Table} caption="Rows of this day by chain" columns=${READ} rows=${read} keys=${false}
        keyOf=${({ name }) => name} />`}
    ${runs.length === 0 ? html`<${Empty} title="No check ran on this day" />`
      : html`<h3>Checks of this day</h3><${Table} caption="Checks of this day" columns=${RUNS}
        rows=${runs.slice(0, SHOWN)} keyOf=${({ id }) => id} linkOf=${linkToRun} keys=${false} />`}
    ${runs.length > SHOWN && html`<small class="muted">The last ${SHOWN} of ${
      format.count(runs.length)}.</small>`}
  </section>`;
}

/** More checks of a day are too many to look at here. */
const SHOWN = 50;

/** Every full check reads all rows from the first on: a day’s are read long after it, too. */
function sayLastRead(read) {
  const unread = read.filter(({ missing }) => missing.length > 0);
  const rows = unread.reduce((total, { missing }) => total + countOf(missing), 0);
  const oldest = read.map(({ by }) => by).filter(Boolean)
    .reduce((least, by) => (!least || by.at < least.at ? by : least), null);
  return html`${rows > 0 && html`<strong>${counted(rows, 'of them was', 'of them were')} read by no
      check that is loaded here</strong> (${unread.map(({ name, missing }) => (
        `${name} ${missing.map(spelt).join(', ')}`)).join('; ')}). `}
    ${oldest && html`${rows > 0 ? 'The other rows' : 'Rows'} of this day were last read by a check
      on${' '}<strong><${Time} at=${oldest.at} digits=${0} /></strong> ${format.zoneName()} (${
        nameOfCheck(oldest.kind)}) or later.`}`;
}

function spelt([from, to]) {
  return from === to ? format.count(from) : `${format.count(from)} – ${format.count(to)}`;
}

function linkToRun({ id }) {
  const { tab, rest, query } = route.get();
  return linkTo(tab, rest, { ...query, run: id });
}

const READ = [
  { name: 'chain', title: 'Chain', show: ({ name }) => name },
  { name: 'ids', title: 'Ids', align: 'right', show: ({ first, last }) => (
    spelt([first, last])) },
  { name: 'by', title: 'Read by a check on', show: ({ by, missing }) => html`${by
    ? html`<a href=${linkToRun({ id: by.runId })}><${Time} at=${by.at} digits=${0} /></a>` : ''}${
    missing.length > 0 ? `${by ? ', ' : ''}${format.count(countOf(missing))} not` : ''}` },
];

const RUNS = [
  { name: 'at', title: 'Time', show: ({ at }) => html`<${Time} at=${at} digits=${0} />` },
  { name: 'kind', title: 'Kind', show: ({ kind }) => nameOfCheck(kind) },
  { name: 'verdict', title: 'Verdict', show: ({ verdict }) => html`
    <${RunVerdict} verdict=${verdict} />` },
  { name: 'rows', title: 'Rows', align: 'right', show: ({ rows }) => format.count(rows) },
  { name: 'ms', title: 'Took', align: 'right', show: ({ ms }) => format.duration(ms) },
];
