// Rows of the ledger played again, in the order in which they were appended.
import { getJson } from '../../api.js';
import { chains, filtersOf, givenFilters } from '../../chains.js';
import { Filters, instantOf } from '../../filters.js';
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import {
  Empty, ErrorNotice, Field, Notice, Panel, Table, Time, useInterval, useLoad, useNow,
} from '../../parts.js';
import { html, useEffect, useMemo, useRef, useState } from '../../preact.js';
import { linkTo, route, setQuery } from '../../route.js';
import { can } from '../../session.js';
import { useShortcut } from '../../shortcuts.js';
import { What } from '../../what.js';
import { KEPT, Player, keyOf } from './player.js';
import { Seek } from './seek.js';

const SPEEDS = [
  ['0', 'As fast as possible'], ['1', '1×'], ['10', '10×'], ['60', '60×'], ['600', '600×'],
];
/** A minute of the ledger in a second: something is seen to happen, and can be followed. */
const FIRST_SPEED = '60';
const TOTAL_EVERY_MS = 5000;

/** What the URL says: which chains, filters, how fast, from where. */
function readQuery(query, described) {
  const names = described.map(({ name }) => name);
  const asked = (query.chains ?? '').split(',').filter((name) => names.includes(name));
  const chosen = asked.length > 0 ? names.filter((name) => asked.includes(name)) : names;
  const usable = filtersOf(chosen);
  const filters = givenFilters(usable, query);
  const known = new Set(described.flatMap((chain) => chain.filters.map(({ name }) => name)));
  const speed = query.speed ?? FIRST_SPEED;
  const from = /^\d{1,15}$/.test(query.from_leaf ?? '') ? Number(query.from_leaf) : 0;
  return {
    chosen, isAll: chosen.length === names.length, usable, filters, speed, from,
    unused: Object.keys(query).filter((name) => known.has(name) && !(name in filters)),
    asked: { chains: chosen.join(','), ...filters, speed },
  };
}

/** How many leaves the log has. */
async function leavesOf(described, signal) {
  const { checkpoint } = await getJson('v1/integrity', {}, { signal });
  if (checkpoint) return checkpoint.tree_size + (checkpoint.leaves_behind ?? 0);
  // Before the first checkpoint: one more than the newest row of all chains has.
  const newest = await Promise.all(described.map(({ name }) => getJson(`v1/${name}`, { limit: 1 },
    { signal })));
  const leaves = newest.flatMap(({ items }) => items.map(({ leaf_index: leaf }) => leaf ?? -1));
  return Math.max(-1, ...leaves) + 1;
}

/** How many leaves the log has, asked again now and then; null where that is not known. */
function useTotal(described) {
  const { data, reload } = useLoad(
    (signal) => (can('read') ? leavesOf(described, signal) : null), [],
  );
  useInterval(reload, TOTAL_EVERY_MS);
  return data;
}

export function Replay() {
  const { query } = useObservable(route);
  const described = useObservable(chains);
  const read = useMemo(() => readQuery(query, described), [query, described]);
  const [player] = useState(() => new Player(read.from));
  const shown = useObservable(player.shown);
  const total = useTotal(described);
  useEffect(() => () => player.pause(), []);
  const asked = useRef(read.asked);
  // Another choice holds from the next row on.
  useEffect(() => {
    if (JSON.stringify(asked.current) === JSON.stringify(read.asked)) return;
    asked.current = read.asked;
    if (player.isOpen) player.play(read.asked, total);
  }, [read.asked]);
  // A link leads to where it stands; from the end, to where it began.
  useEffect(() => {
    if (['idle', 'paused', 'broken'].includes(shown.state)) {
      setQuery({ from_leaf: shown.next || null }, { replace: true });
    }
  }, [shown.state, shown.next]);
  const act = {
    play: () => player.play(read.asked, total),
    pause: () => player.pause(),
    step: () => player.step(read.asked, total),
    stop: () => player.reset(0),
    seek: (leaf) => {
      const wasOpen = player.isOpen;
      player.seek(leaf);
      if (wasOpen) player.play(read.asked, total);
    },
  };
  useEffect(() => {
    const { next, state } = player.shown.get();
    if (read.from !== next && state !== 'ended') act.seek(read.from);
  }, [read.from]);
  const toggle = () => (player.isOpen ? act.pause() : act.play());
  useShortcut([' ', 'p'], 'Pause the replay, or go on', toggle);
  useShortcut('s', 'One row further', act.step);
  return html`<${Panel} title="Replay">
      <div class="stack replay">
        <${ChainBoxes} described=${described} chosen=${read.chosen} isAll=${read.isAll} />
        <${Filters} filters=${read.usable} query=${read.filters}
          onChange=${(changed) => setQuery(changed)} />
        ${read.unused.length > 0 && html`<${Notice} kind="warn"
          title="Not a filter of all these chains">
          Not used: ${read.unused.map((name) => html`<code>${name}</code> `)}
          <button type="button" class="small" onClick=${() => setQuery(Object.fromEntries(
            read.unused.map((name) => [name, null])))}>Remove</button><//>`}
        <${Speed} speed=${read.speed} />
        <${Transport} shown=${shown} act=${act} total=${total} />
        <${Seek} shown=${shown} total=${total} seek=${act.seek} asked=${read.asked} />
        <${Position} shown=${shown} total=${total} />
        ${shown.error && html`<${ErrorNotice} error=${shown.error} />`}
      </div>
    <//>
    <${Rows} shown=${shown} />`;
}

function ChainBoxes({ described, chosen, isAll }) {
  const set = (names) => setQuery({
    chains: names.length === 0 || names.length === described.length ? null : names.join(','),
  });
  const toggle = (name) => set(described.map((chain) => chain.name)
    .filter((other) => (other === name ? !chosen.includes(name) : chosen.includes(other))));
  return html`<fieldset class="chains"><legend>Chains</legend><div class="row">
    ${described.map(({ name }) => html`<label key=${name} class="nowrap"><input type="checkbox"
      checked=${chosen.includes(name)} disabled=${chosen.length === 1 && chosen[0] === name}
      onChange=${() => toggle(name)} /> ${format.words(name)}</label>`)}
    ${!isAll && html`<button type="button" class="small quiet"
      onClick=${() => set([])}>All</button>`}
  </div></fieldset>`;
}

function Speed({ speed }) {
  const isOwn = !SPEEDS.some(([value]) => value === speed);
  const isNumber = speed !== '' && Number.isFinite(Number(speed));
  const [own, setOwn] = useState(isOwn && isNumber ? speed : '');
  function submit(event) {
    event.preventDefault();
    if (own !== '') setQuery({ speed: own });
  }
  const meaning = !isNumber ? 'no number' : Number(speed) === 0 ? 'no time between rows'
    : `${speed} ${speed === '1' ? 'second' : 'seconds'} of the ledger in a second`;
  return html`<fieldset class="speed"><legend>Speed: ${meaning}</legend><div class="row">
    ${SPEEDS.map(([value, title]) => html`<button key=${value} type="button"
      aria-pressed=${String(value === speed)}
      onClick=${() => setQuery({ speed: value })}>${title}</button>`)}
    <form class="row own" onSubmit=${submit}>
      <input type="number" min="0" max="1000000000" step="any" aria-label="Another speed"
        value=${own} placeholder="other" onInput=${(event) => setOwn(event.target.value)} />
      <button type="submit" aria-pressed=${String(isOwn)} disabled=${own === ''}>Set</button>
    </form>
  </div></fieldset>`;
}

function Transport({ shown, act, total }) {
  const { state, count, next } = shown;
  const isOpen = ['connecting', 'playing'].includes(state);
  const isAtEnd = state === 'ended' && (total === null || next >= total);
  const word = isAtEnd ? 'Look for newer rows' : state !== 'idle' ? 'Resume'
    : next > 0 ? 'Start here' : 'Start';
  return html`<div class="row transport">
    ${isOpen
      ? html`<button type="button" class="primary" onClick=${act.pause}
          aria-keyshortcuts="p">Pause</button>`
      : html`<button type="button" class="primary" onClick=${act.play}
          aria-keyshortcuts="p">${word}</button>`}
    <button type="button" onClick=${act.step} aria-keyshortcuts="s">Step</button>
    <button type="button" disabled=${state === 'idle' && next === 0 && count === 0}
      onClick=${act.stop}>${isOpen ? 'Stop and rewind' : 'Rewind'}</button>
    <small class="muted"><kbd>p</kbd> or <kbd>space</kbd> pauses and goes on, <kbd>s</kbd> is one
      row further</small>
  </div>`;
}

const STATES = {
  idle: 'ready', connecting: 'connecting…', playing: 'playing', paused: 'paused',
  ended: 'at the end', broken: 'broken off',
};

const NOTHING = html`<span class="muted">–</span>`;

function Position({ shown, total }) {
  const { state, next, last, count, unseen, rate, clock } = shown;
  return html`<dl class="position">
    <div><dt>State</dt><dd><span role="status" data-state=${state}>${
      STATES[state]}</span></dd></div>
    <div><dt>Next leaf</dt><dd data-next=${next}>${format.count(next)}${
      total === null ? '' : ` of ${format.count(Math.max(total, next))}`}</dd></div>
    <div><dt>Last row</dt><dd>${last ? html`<${Time} at=${last.at} /> ${format.zoneName()}`
      : NOTHING}</dd></div>
    <div><dt>Ledger’s clock</dt><dd>${clock ? html`<${Clock} clock=${clock} />`
      : NOTHING}</dd></div>
    <div><dt>Rows played</dt><dd data-count=${count}>${format.count(count)}${rate >= 1
      && html` <span class="muted">${format.count(Math.round(rate))} a second</span>`}</dd></div>
    ${unseen > 0 && html`<div><dt>Not drawn</dt><dd data-unseen=${unseen}>${format.count(unseen)}
      <span class="muted"> came too fast for it</span></dd></div>`}
  </dl>`;
}

/** Where the ledger's time is now, while rows come with the time between them. */
function Clock({ clock: { at, since, speed } }) {
  useNow(250);
  const now = at + (performance.now() - since) * speed;
  return html`<${Time} at=${instantOf(new Date(Math.min(now, Date.now())))} digits=${0} /> ${
    format.zoneName()}`;
}

function Rows({ shown: { rows, state, unseen, rate } }) {
  const columns = [
    { name: 'leaf', title: 'Leaf', align: 'right',
      show: ({ leaf }) => (Number.isSafeInteger(leaf) ? format.count(leaf) : 'lost') },
    { name: 'at', title: `Appended (${format.zoneName()})`, show: ({ row }) => html`<${Time}
      at=${row.created_at} />` },
    { name: 'chain', title: 'Chain', show: ({ chain }) => format.words(chain) },
    { name: 'what', title: 'Row', class: 'wide',
      show: ({ chain, row }) => html`<${What} chain=${chain} row=${row} />` },
  ];
  return html`<${Panel} title="Rows" class="replayed">
    ${rows.length === 0 ? html`<${Empty} title=${state === 'ended' ? 'No row was there to play'
        : 'Nothing was played yet'}><p>${state === 'ended'
        ? 'Take filters away, or go to an earlier leaf.'
        : 'Start plays the rows from the position on.'}</p><//>`
      : html`<${Table} caption="Rows played, the newest first" columns=${columns} rows=${rows}
          keyOf=${keyOf} linkOf=${({ chain, row }) => linkTo('ledger', [chain], { row: row.id })} />
        <p class="muted">${unseen > 0 && rate > 0 && state === 'playing'
          ? 'Rows come faster than they can be drawn: a sample is shown until it pauses.'
          : rows.length === KEPT && `These are the latest ${KEPT} rows.`}</p>`}
  <//>`;
}
