// An export: which rows, in which format, how many that are, and the ways to get them.
import { chains, filtersOf, givenFilters } from '../../chains.js';
import { Filters } from '../../filters.js';
import * as format from '../../format.js';
import { useObservable } from '../../observable.js';
import {
  Badge, Copy, Empty, ErrorNotice, Field, Notice, Panel, Short, Time, useLoad,
} from '../../parts.js';
import { html, useState } from '../../preact.js';
import { go, linkTo, route, setQuery } from '../../route.js';
import { can } from '../../session.js';
import { What } from '../../what.js';
import { curlOf, exportCommandOf, exportPath, verifyCommandOf } from './commands.js';
import { estimatedSize, sampleOf, useCount } from './count.js';
import { download, downloads } from './downloads.js';

const FORMATS = [
  ['csv', 'CSV', 'For spreadsheets; what one would run as a formula begins with an apostrophe.'],
  ['json', 'JSON', 'One array, for programs that read a file as a whole.'],
  ['ndjson', 'NDJSON', 'A row per line with all columns and documents; each can be hashed again.'],
  ['bundle', 'Bundle', 'For an auditor: a zip that proves itself offline, with the signed '
    + 'checkpoint and proofs that no row of its range is missing or changed.'],
];
/** What a bundle takes (FORMAT.md section 6): bounds that cannot make holes. */
const RANGES = ['from', 'to', 'from_id', 'to_id'];
const PREVIEWED = 5;

/** What of the URL is an export of this chain: filters that are used, and those that are not. */
function readQuery(chain, query) {
  const kind = FORMATS.some(([name]) => name === query.format) ? query.format : 'ndjson';
  const taken = filtersOf([chain]);
  const usable = kind === 'bundle' ? taken.filter(({ name }) => RANGES.includes(name)) : taken;
  const given = givenFilters(taken, query);
  const used = givenFilters(usable, query);
  const foreign = (chains.get() ?? []).flatMap(({ filters }) => filters.map(({ name }) => name))
    .filter((name) => query[name] && !taken.some((filter) => filter.name === name));
  return {
    kind, usable, used, foreign: [...new Set(foreign)],
    unused: Object.keys(given).filter((name) => !(name in used)),
  };
}

/** @param {{chain: string | null, named: string}} props `chain`: null where none is named so */
export function Builder({ chain, named }) {
  const { query } = useObservable(route);
  if (!chain) {
    return html`<${Panel} title="Export"><${Empty} title=${`There is no chain ${named}`}>
      <p><a href=${linkTo('export')}>Export another one</a></p><//><//>`;
  }
  return html`<${Wanted} key=${chain} chain=${chain} query=${query} />`;
}

function Wanted({ chain, query }) {
  const read = readQuery(chain, query);
  const { kind, used } = read;
  const counted = useCount(chain, used, can('read'));
  const path = exportPath(chain, kind, used);
  return html`<div class="halves export">
    <${Panel} title="Export">
      <div class="stack">
        <${ChainChoice} chain=${chain} query=${query} />
        <${Filters} filters=${read.usable} query=${used}
          onChange=${(changed) => setQuery(changed)} />
        <${NotUsed} chain=${chain} read=${read} />
        <${FormatChoice} kind=${kind} />
        <${Download} path=${path} wanted=${{ chain, format: kind, filters: used }} />
      </div>
    <//>
    <div class="stack">
      <${Panel} title="What it will hold" actions=${html`<a class="button small" href=${
        linkTo('export', ['replay'], { chains: chain, ...used })}>Replay these rows</a>`}>
        <${Preview} chain=${chain} kind=${kind} used=${used} counted=${counted} />
      <//>
      <${Terminal} chain=${chain} kind=${kind} used=${used} path=${path} />
    </div>
  </div>`;
}

function ChainChoice({ chain, query }) {
  const described = useObservable(chains);
  function choose(event) {
    const next = event.target.value;
    // A filter that the other chain does not have would be refused.
    const kept = givenFilters(filtersOf([next]), query);
    go('export', [next], { ...kept, format: query.format });
  }
  return html`<${Field} id="export-chain" label="Chain" class="narrow">
    <select id="export-chain" value=${chain} onChange=${choose}>
      ${described.map(({ name }) => html`<option key=${name} value=${name}>${
        format.words(name)}</option>`)}
    </select>
  <//>`;
}

/** Filters that the URL has and the export does not use: it holds more than somebody may think. */
function NotUsed({ chain, read: { unused, foreign } }) {
  const remove = (names) => setQuery(Object.fromEntries(names.map((name) => [name, null])));
  const list = (names) => names.map((name, at) => html`${at > 0 && ', '}<code>${name}</code>`);
  return html`
    ${unused.length > 0 && html`<${Notice} kind="warn"
      title="A bundle takes ranges of ids and times only">
      <p>It proves that no row of its range is missing, so it cannot leave rows out. Not used:${' '}
        ${list(unused)}.</p>
      <p><button type="button" class="small" onClick=${() => remove(unused)}>
        Remove from the filters</button></p><//>`}
    ${foreign.length > 0 && html`<${Notice} kind="warn"
      title=${`Not a filter of ${format.words(chain)}`}>
      <p>Not used: ${list(foreign)}.</p>
      <p><button type="button" class="small" onClick=${() => remove(foreign)}>
        Remove</button></p><//>`}`;
}

function FormatChoice({ kind }) {
  return html`<fieldset class="formats"><legend>Format</legend>
    ${FORMATS.map(([name, title, sentence]) => html`<label key=${name}>
      <input type="radio" name="format" value=${name} checked=${kind === name}
        onChange=${() => setQuery({ format: name })} />
      <span><strong>${title}</strong> <span class="muted">${sentence}</span></span></label>`)}
  </fieldset>`;
}

function Download({ path, wanted }) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState(null);
  const [title] = FORMATS.filter(([name]) => name === wanted.format).map(([, name]) => name);
  async function act() {
    setBusy(true);
    setFailed(null);
    try {
      await download(path, wanted);
    } catch (error) {
      setFailed({ path, error });
    }
    setBusy(false);
  }
  return html`<div class="stack">
    <div class="row"><button type="button" class="primary" disabled=${busy} onClick=${act}>${
      busy ? 'Asking for a link…' : `Download ${title}`}</button>
      <small class="muted">By a link that is good once, for a minute. On record as an
        export.</small></div>
    ${failed?.path === path && html`<${ErrorNotice} error=${failed.error} again=${act} />`}
    <${Downloads} />
  </div>`;
}

function Downloads() {
  const known = useObservable(downloads);
  if (known.length === 0) return null;
  return html`<ul class="downloads" aria-label="Downloads of this page" aria-live="polite">
    ${known.map((one) => html`<li key=${one.at}><${OneDownload} ...${one} /></li>`)}</ul>`;
}

const STATES = {
  asked: ['none', 'asked for'], begun: ['info', 'under way'], complete: ['ok', 'complete'],
  unknown: ['warn', 'handed to the browser'],
};

function OneDownload({ chain, format: kind, state, rows, bytes, sha256, event }) {
  const [badge, word] = STATES[state];
  return html`<div class="row"><${Badge} kind=${badge}>${word}<//>
      <span>${format.words(chain)}, ${kind}${rows === undefined ? '' : `, ${rowsOf(rows)}`}${
        bytes === undefined ? '' : `, ${format.bytes(bytes)}`}</span></div>
    ${state === 'unknown' && html`<small class="muted">${can('read')
      ? 'The ledger has no record that it began. Where the browser could not download it, the '
        + 'service refused: too many exports at once, or no checkpoint yet for a bundle. Try again.'
      : 'Whether it is complete, the browser tells: what breaks off is shown as failed.'}</small>`}
    ${sha256 && html`<small class="muted">SHA-256 of the file, as <a href=${linkTo('ledger',
      ['security_events'], { row: event })}>event ${event}</a> has it:${' '}
      <${Short} text=${sha256} head=${12} tail=${8} /></small>${' '}
      <${Copy} text=${sha256} what="SHA-256" />`}`;
}

const rowsOf = (count) => `${format.count(count)} ${count === 1 ? 'row' : 'rows'}`;

function Preview({ chain, kind, used, counted }) {
  const { stats, counting, error, isSlow, again } = counted;
  const of = new URLSearchParams(used).toString();
  const hasRows = stats !== null && stats.count > 0;
  const sample = useLoad((signal) => (hasRows ? sampleOf(chain, used, signal) : null),
    [of, hasRows]);
  const rows = hasRows ? sample.data : null;
  if (!can('read')) {
    return html`<${Notice} kind="info" title="This key may export, but not read">
      Counting rows needs the scope <code>read</code>.<//>`;
  }
  if (error) return html`<${ErrorNotice} error=${error} again=${again} />`;
  const size = rows && estimatedSize(kind, stats.count, rows);
  return html`<div class="stack">
    <p class="live-count" role="status">${counting || stats === null
      ? html`<span class="muted">counting…</span>`
      : html`<strong data-count=${stats.count}>${rowsOf(stats.count)}</strong> ${
        isSlow && html`<button type="button" class="small" onClick=${again}>
          Count again</button>`}`}</p>
    ${stats?.count === 0 && html`<p class="muted">No row meets these filters now. The export would
      be empty.</p>`}
    ${hasRows && html`<dl class="facts">
      <dt>Ids</dt><dd>${format.count(stats.first_id)} to ${format.count(stats.last_id)}</dd>
      <dt>Appended</dt><dd><${Time} at=${stats.first_created_at} /> to${' '}
        <${Time} at=${stats.last_created_at} /> ${format.zoneName()}</dd>
      <dt>Size</dt><dd>${size === null ? html`<span class="muted">judging…</span>`
        : html`about ${format.bytes(size)}${kind === 'bundle' ? ' before it is compressed' : ''}
          <span class="muted">, as far as its newest ${rowsOf(rows.length)} tell</span>`}</dd>
    </dl>`}
    ${rows && html`<${Newest} chain=${chain} rows=${rows.slice(0, PREVIEWED)} />`}
  </div>`;
}

function Newest({ chain, rows }) {
  return html`<div><h3>Newest rows</h3><ul class="newest">${rows.map((row) => html`
    <li key=${row.id}><a href=${linkTo('ledger', [chain], { row: row.id })} aria-label=${`Row ${row.id}`}>${
      row.id}</a> <${What} chain=${chain} row=${row} /></li>`)}</ul></div>`;
}

function Command({ title, text, children }) {
  return html`<section class="command" aria-label=${title}>
    <div class="row spread"><h3>${title}</h3><${Copy} text=${text} what=${title} /></div>
    <pre tabindex="0">${text}</pre>
    ${children && html`<p class="muted">${children}</p>`}
  </section>`;
}

function Terminal({ chain, kind, used, path }) {
  const check = verifyCommandOf(chain, kind);
  return html`<${Panel} title="The same from a terminal">
    <div class="stack">
      <${Command} title="curl" text=${curlOf(path)}>The key is read from the variable${' '}
        <code>LEDGER_KEY</code>, so that no history keeps it.<//>
      <${Command} title="audit-ledger" text=${exportCommandOf(chain, kind, used)}>
        Where the service’s configuration is.<//>
      ${check && html`<${Command} title="Check it offline" text=${check}>${kind === 'bundle'
        ? html`Hand out <code>ledger-verify</code> with it. <code>vkey.txt</code> holds the verifier
          key, as <code>audit-ledger vkey</code> prints it; an auditor gets it from elsewhere than
          the bundle.`
        : html`Each row’s hash, and the links between rows that follow each other. Only a bundle
          shows that none is missing.`}<//>`}
    </div>
  <//>`;
}
