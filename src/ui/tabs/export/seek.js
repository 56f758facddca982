// Where a replay stands in the log, and how to go elsewhere.
import { events } from '../../api.js';
import { toInstant } from '../../filters.js';
import * as format from '../../format.js';
import { ErrorNotice, Field } from '../../parts.js';
import { html, useEffect, useRef, useState } from '../../preact.js';

/** While somebody drags, it goes there once they rest. */
const SETTLES_MS = 250;

/**
 * @param {{shown: object, total: number | null, seek: (leaf: number) => void, asked: object}} props
 *   `asked`: the replay's chains and filters
 */
export function Seek({ shown, total, seek, asked }) {
  return html`<div class="seek">
    ${total !== null && html`<${Slider} next=${shown.next} total=${total} seek=${seek} />`}
    <${GoTo} total=${total} seek=${seek} asked=${asked} />
  </div>`;
}

function Slider({ next, total, seek }) {
  const [dragged, setDragged] = useState(null);
  const timer = useRef(null);
  useEffect(() => () => clearTimeout(timer.current), []);
  function drag(event) {
    const leaf = Number(event.target.value);
    setDragged(leaf);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => {
      setDragged(null);
      seek(leaf);
    }, SETTLES_MS);
  }
  const at = Math.min(dragged ?? next, total);
  const share = total === 0 ? 0 : (at / total) * 100;
  return html`<div class="slider">
    <label class="off-screen" for="replay-position">Position in the log</label>
    <input id="replay-position" type="range" min="0" max=${total} step="1" value=${at}
      onInput=${drag} aria-valuetext=${`leaf ${format.count(at)} of ${format.count(total)}`} />
    <output for="replay-position">${share.toFixed(share > 0 && share < 1 ? 2 : 0)} %</output>
  </div>`;
}

/** The leaf of the first row that the replay has from a time on, or null. */
async function leafAt(instant, asked) {
  const stop = new AbortController();
  const from = asked.from && Date.parse(asked.from) > Date.parse(instant) ? asked.from : instant;
  const query = { ...asked, from, speed: '1' };
  try {
    const stream = events('v1/replay', { query, signal: stop.signal });
    const { value, done } = await stream.next();
    return done ? null : Number(value.id);
  } finally {
    stop.abort();
  }
}

function GoTo({ total, seek, asked }) {
  const [by, setBy] = useState('leaf');
  const [value, setValue] = useState('');
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  async function go(event) {
    event.preventDefault();
    setProblem(null);
    if (by === 'leaf') {
      seek(total === null ? Number(value) : Math.min(Number(value), total));
      return;
    }
    setBusy(true);
    try {
      const leaf = await leafAt(toInstant(value), asked);
      if (leaf === null) setProblem(new Error('There is no row from that time on.'));
      else seek(leaf);
    } catch (error) {
      setProblem(error);
    }
    setBusy(false);
  }
  return html`<form class="row" onSubmit=${go} aria-label="Go to a position">
      <${Field} id="goto-by" label="Go to">
        <select id="goto-by" value=${by} onChange=${(event) => {
          setBy(event.target.value);
          setValue('');
          setProblem(null);
        }}>
          <option value="leaf">a leaf</option><option value="time">a time</option>
        </select>
      <//>
      <${Field} id="goto-value"
        label=${by === 'leaf' ? 'Leaf index' : `Appended from (${format.zoneName()})`}>
        ${by === 'leaf'
          ? html`<input key="leaf" id="goto-value" type="number" min="0" step="1" required
              value=${value} onInput=${(event) => setValue(event.target.value)} />`
          : html`<input key="time" id="goto-value" type="datetime-local" step="1" required
              value=${value} onInput=${(event) => setValue(event.target.value)} />`}
      <//>
      <button type="submit" disabled=${value === '' || busy}>${busy ? 'Looking…' : 'Go'}</button>
    </form>
    <${ErrorNotice} error=${problem} />`;
}
