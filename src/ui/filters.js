// One bar of filters for every tab. Which there are, the chain's description says.
import * as format from './format.js';
import { useObservable } from './observable.js';
import { Field } from './parts.js';
import { html, useState } from './preact.js';
import { prefs } from './prefs.js';
import { useShortcut } from './shortcuts.js';

const SPANS = [['15 minutes', 15], ['hour', 60], ['day', 24 * 60], ['7 days', 7 * 24 * 60]];

/**
 * @param {{filters: object[], query: Record<string, string>, id?: string,
 *   onChange: (changed: Record<string, string | null>) => void}} props `filters` as `/v1/chains`
 *   describes them; `query` has the values that are set, as they stand in URLs
 */
export function Filters({ filters, query, onChange, id = 'filter' }) {
  const [name, setName] = useState('');
  const [value, setValue] = useState('');
  useShortcut('/', 'Go to the filters', () => document.getElementById(`${id}-name`)?.focus());
  const chosen = filters.find((filter) => filter.name === name);
  const set = filters.filter((filter) => query[filter.name]);
  const hasTime = filters.some((filter) => filter.name === 'from');
  function add(event) {
    event.preventDefault();
    if (!chosen || value === '') return;
    onChange({ [name]: chosen.type === 'time' ? toInstant(value) : value.trim() });
    setName('');
    setValue('');
    document.getElementById(`${id}-name`).focus();
  }
  return html`<div class="filters">
    <form class="row" onSubmit=${add} aria-label="Filters">
      <${Field} id=${`${id}-name`} label="Filter by">
        <select id=${`${id}-name`} value=${name} onChange=${(event) => {
          setName(event.target.value);
          setValue('');
        }}>
          <option value="">choose…</option>
          ${filters.map((filter) => html`<option key=${filter.name} value=${filter.name}>${
            titleOf(filter)}</option>`)}
        </select>
      <//>
      <${Field} id=${`${id}-value`} label="Value">
        <${Value} id=${`${id}-value`} filter=${chosen} value=${value} onValue=${setValue} />
      <//>
      <button type="submit" disabled=${!chosen || value === ''}>Add</button>
      ${hasTime && html`<${Field} id=${`${id}-span`} label="Appended in the last">
        <select id=${`${id}-span`} value="" onChange=${(event) => {
          const minutes = Number(event.target.value);
          onChange({ from: instantOf(new Date(Date.now() - minutes * 60_000)), to: null });
        }}>
          <option value="">choose…</option>
          ${SPANS.map(([title, minutes]) => html`<option key=${title} value=${minutes}>${title}</option>`)}
        </select>
      <//>`}
    </form>
    ${set.length > 0 && html`<ul class="chips" aria-label="Filters that are set">
      ${set.map((filter) => html`<${Chip} key=${filter.name} filter=${filter}
        value=${query[filter.name]} onRemove=${() => onChange({ [filter.name]: null })} />`)}
      <li><button type="button" class="small quiet" onClick=${() => onChange(
        Object.fromEntries(set.map((filter) => [filter.name, null])))}>Remove all</button></li>
    </ul>`}
  </div>`;
}

function Chip({ filter, value, onRemove }) {
  useObservable(prefs);
  const shown = filter.type === 'time' ? `${format.time(spelt(value), { digits: 0 })} ${format.zoneName()}`
    : value;
  return html`<li class="chip"><span>${titleOf(filter)} <strong title=${value}>${
    format.short(shown, 28, 8)}</strong></span>
    <button type="button" class="small quiet" onClick=${onRemove}
      aria-label=${`Remove the filter ${titleOf(filter)} ${shown}`}>×</button></li>`;
}

function Value({ id, filter, value, onValue }) {
  const take = (event) => onValue(event.target.value);
  const few = filter?.type === 'boolean' ? ['true', 'false'] : filter?.values;
  if (few) {
    return html`<select id=${id} value=${value} onChange=${take}>
      <option value="">choose…</option>
      ${few.map((one) => html`<option key=${one} value=${one}>${one}</option>`)}
    </select>`;
  }
  if (filter?.type === 'time') {
    return html`<input id=${id} type="datetime-local" step="1" value=${value} onInput=${take} />`;
  }
  const isNumber = filter?.type === 'integer' || filter?.type === 'decimal';
  return html`<input id=${id} type="text" value=${value} onInput=${take} disabled=${!filter}
    inputmode=${isNumber ? 'decimal' : 'text'} autocomplete="off" spellcheck="false" />`;
}

const RELATIONS = { at_least: 'at least', at_most: 'at most', below: 'before' };
const NAMES = {
  from: 'appended from', to: 'appended before', timestamp_from: 'producer’s time from',
  timestamp_to: 'producer’s time before', from_id: 'id from', to_id: 'id up to',
};

function titleOf({ name, column, comparison }) {
  return NAMES[name] ?? `${format.words(column ?? name)} ${RELATIONS[comparison] ?? 'is'}`;
}

/** An instant as the ledger spells it. */
export function instantOf(date) {
  return date.toISOString().replace(/\.(\d{3})Z$/, '.$1000Z');
}

/** What stands in an input of the chosen zone, as an instant. */
export function toInstant(local) {
  return instantOf(new Date(prefs.get().zone === 'utc' ? `${local}Z` : local));
}

/** Any RFC 3339 instant with six digits, as far as it can be read. */
function spelt(instant) {
  const date = new Date(instant);
  return Number.isNaN(date.getTime()) ? instant : instantOf(date);
}
