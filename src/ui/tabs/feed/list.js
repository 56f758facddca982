// The rows of the feed, the newest on top.
import { instantOf } from '../../filters.js';
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import { Table } from '../../parts.js';
import { html, useEffect, useLayoutEffect, useRef } from '../../preact.js';
import { prefs } from '../../prefs.js';
import { linkTo } from '../../route.js';
import { sourceColumn } from './event.js';
import { What } from '../../what.js';

/** An instant as its time of day, where the day is today; the tooltip has it whole. */
function When({ at, today }) {
  const text = format.time(at);
  const [day, clock] = text.split(' ');
  const title = `${format.time(at, { digits: 6 })} ${format.zoneName()}`;
  return html`<time datetime=${at} title=${title}>${day === today ? clock : text}</time>`;
}

/** A row's line never changes: it is made once, and drawn once for as long as it is shown. */
const lines = new WeakMap();

function lineOf(chain, row) {
  if (!lines.has(row)) lines.set(row, html`<${What} chain=${chain} row=${row} />`);
  return lines.get(row);
}

const COLUMNS = [
  { name: 'time', title: 'Time', show: ({ row, today }) => html`<${When} at=${row.created_at}
    today=${today} />` },
  { name: 'row', title: 'Row', opens: true, show: ({ chain, row }) => `${chain} ${row.id}` },
  { name: 'source', title: 'Source', class: 'source',
    show: ({ chain, row }) => {
      const source = row[sourceColumn(chain)] ?? '–';
      return html`<bdi title=${source}>${source}</bdi>`;
    } },
  { name: 'what', title: 'What', class: 'line', show: ({ chain, row }) => lineOf(chain, row) },
];
/** Between a row and the one below it, where not all are shown. */
const LEFT_OUT = {
  name: 'skipped', title: 'Not shown', align: 'right', class: 'muted',
  show: ({ skipped }) => skipped > 0 && html`<span
    title="Rows before this one. They are in the ledger.">+ ${format.count(skipped)}</span>`,
};

/** The rows that the model shows; new ones are marked as that, unless all are. */
export function Rows({ rows, mark }) {
  useObservable(prefs);
  const box = useRef();
  const [today] = format.time(instantOf(new Date())).split(' ');
  useKeptFocus(box);
  const columns = rows.some(({ skipped }) => skipped > 0) ? [...COLUMNS, LEFT_OUT] : COLUMNS;
  return html`<div class="rows" ref=${box}><${Table} caption="Rows, the newest first"
    columns=${columns} rows=${rows.map((row) => ({ ...row, today }))} keyOf=${({ leaf }) => leaf}
    linkOf=${({ chain, row }) => linkTo('ledger', [chain], { row: row.id })}
    isNew=${({ at }) => mark && at !== null}
    classOf=${({ alarming }) => alarming && 'alarming'} /></div>`;
}

/** A row that has the focus and is not shown any more leaves it to the list, not to the page. */
function useKeptFocus(box) {
  const had = useRef(null);
  useEffect(() => {
    const look = ({ target }) => { had.current = box.current?.contains(target) ? target : null; };
    document.addEventListener('focusin', look);
    return () => document.removeEventListener('focusin', look);
  }, []);
  useLayoutEffect(() => {
    if (!had.current || had.current.isConnected) return;
    had.current = null;
    if (document.activeElement !== document.body) return;
    box.current.querySelector('.table')?.focus({ preventScroll: true });
  });
}
