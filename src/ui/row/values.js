// A value of a row as people read it. Text of the ledger is text, whatever stands in it.
import * as format from '../format.js';
import { Badge, Time } from '../parts.js';
import { html } from '../preact.js';
import { linkTo } from '../route.js';
import { ExactText } from './text.js';

/** Begins what stands for a value that has no canonical form any more (FORMAT.md section 2). */
const UNREADABLE = 'unreadable:';
/** Events that nobody may overlook. */
const STANDING_OUT = { KILL_SWITCH: 'bad', REJECTED: 'warn' };
/** Columns with the id of another row, and its chain. */
const REFERENCES = { order_execution_id: 'order_execution' };
/** Columns with the anchor of a trade's story. */
const ANCHORS = ['correlation_id', 'duplicate_of'];

/** Where the story of a trade is. */
export function storyLink(correlationId) {
  return linkTo('ledger', ['trades', correlationId]);
}

/**
 * The value of a column.
 * @param {{column: {name: string, type: string}, value: unknown, whole?: boolean}} props `whole`:
 *   nothing is shortened or rounded
 */
export function Value({ column, value, whole = false }) {
  const { name, type } = column;
  if (value === null || value === undefined) {
    return html`<span class="muted">${whole ? 'NULL' : '–'}</span>`;
  }
  if (typeof value === 'string' && value.startsWith(UNREADABLE)) {
    return html`<${Badge} kind="bad"><bdi title=${value}>${whole ? value : 'unreadable'}</bdi><//>`;
  }
  if (ANCHORS.includes(name)) return html`<${Anchor} id=${value} whole=${whole} />`;
  if (REFERENCES[name]) {
    return html`<a href=${linkTo('ledger', [REFERENCES[name]], { row: value })}
      title=${`Row ${value} of ${REFERENCES[name]}`}>${String(value)}</a>`;
  }
  if (name === 'event_type' && STANDING_OUT[value]) {
    return html`<${Badge} kind=${STANDING_OUT[value]}>${value}<//>`;
  }
  if (type === 'time') {
    return html`<${Time} at=${value} digits=${whole ? 6 : 3} />${whole && ` ${format.zoneName()}`}`;
  }
  if (type === 'decimal' && !whole) {
    return html`<span title=${value}>${format.decimal(value)}</span>`;
  }
  if (type === 'integer' || typeof value !== 'string') return String(value);
  return html`<bdi title=${whole ? undefined : value}><${ExactText} text=${value} /></bdi>`;
}

function Anchor({ id, whole }) {
  const href = storyLink(id);
  if (!whole) return html`<a href=${href} title=${`Story of ${id}`}>${format.short(id)}</a>`;
  return html`<span class="mono">${id}</span> <a class="nowrap" href=${href}>Story of this
    trade</a>`;
}
