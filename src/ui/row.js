// One row, whole: every column, what came byte for byte, its receipt, its proof, and whether it is
// what was recorded.
import { ApiError, getJson } from './api.js';
import { chainOf } from './chains.js';
import { saveAs } from './download.js';
import * as format from './format.js';
import { Busy, Copy, Empty, ErrorNotice, useLoad } from './parts.js';
import { html, useEffect, useRef } from './preact.js';
import { linkTo } from './route.js';
import { BytesDocument, TextDocument } from './row/document.js';
import { Proof } from './row/proof.js';
import { Unseen } from './row/text.js';
import { Value } from './row/values.js';
import { Verifying } from './row/verifying.js';
import { useShortcut } from './shortcuts.js';

/** What the receipt repeats. */
const IN_RECEIPT = ['chain', 'id', 'leaf_index', 'row_hash', 'prev_hash', 'created_at'];

/**
 * A row beside the table or story that it was opened from.
 * @param {{chain: string, id: string, focus?: boolean, onClose: () => void,
 *   linkOf?: (id: number) => string, filterLink?: (name: string, value: string) => string,
 *   listLink?: string}} props `id` as it stands in the URL; `focus`: whether it takes the focus
 *   when it is opened; `listLink`: where it stands among its neighbours, if not beside it
 */
export function RowDetail({ chain, id, focus = false, onClose, linkOf, filterLink, listLink }) {
  const box = useRef();
  useShortcut('Escape', 'Close what is open', onClose);
  useEffect(() => {
    box.current.scrollTop = 0;
    if (focus) box.current.focus();
  }, [chain, id, focus]);
  const { data, error, loading, reload } = useLoad(
    (signal) => getJson(`v1/${encodeURIComponent(chain)}/${encodeURIComponent(id)}`, {}, { signal })
      .then((found) => ({ of: `${chain}/${id}`, ...found })),
    [chain, id],
  );
  const known = data?.of === `${chain}/${id}` ? data : null;
  const at = /^[1-9]\d{0,15}$/.test(id) ? Number(id) : null;
  return html`<section class="panel detail" aria-labelledby="detail-title" tabindex="-1" ref=${box}>
    <header><h2 id="detail-title">Row ${format.short(id, 20, 4)} <small class="muted">of ${
      chain}</small></h2>
      <div class="actions">
        ${linkOf && at > 1 && html`<a class="button small" href=${linkOf(at - 1)}
          aria-label=${`Row before: ${at - 1}`}>‹ ${at - 1}</a>`}
        ${linkOf && at !== null && html`<a class="button small" href=${linkOf(at + 1)}
          aria-label=${`Row behind: ${at + 1}`}>${at + 1} ›</a>`}
        ${listLink && html`<a class="button small" href=${listLink}>In its chain</a>`}
        <button type="button" class="small quiet" onClick=${onClose}
          aria-keyshortcuts="Escape">Close</button>
      </div></header>
    ${error && !loading
      ? html`<${Missing} chain=${chain} id=${id} error=${error} again=${reload} />`
      : !known ? html`<${Busy}>Loading the row…<//>`
        : html`<${Whole} key=${known.of} row=${known.row} receipt=${known.receipt}
            filterLink=${filterLink} />`}
  </section>`;
}

function Missing({ chain, id, error, again }) {
  if (!(error instanceof ApiError) || error.status !== 404) {
    return html`<${ErrorNotice} error=${error} again=${again} />`;
  }
  return html`<${Empty} title=${`There is no row ${format.short(id, 20, 4)} in ${chain}.`}>
    <p>Ids count from 1 without a gap: it was not appended yet, or the link is wrong.</p>
    <p><a href=${linkTo('ledger', [chain])}>Show the newest rows</a></p>
  <//>`;
}

function Whole({ row, receipt, filterLink }) {
  const described = chainOf(row.chain);
  // Of a chain that came after this page was loaded: what there is.
  const columns = described?.columns ?? Object.keys(row)
    .filter((name) => !IN_RECEIPT.includes(name)).map((name) => ({ name, type: 'text' }));
  const isDocument = ({ type }) => type === 'document' || type === 'bytes';
  const filters = (described?.filters ?? []).filter(({ comparison }) => comparison === 'equal');
  const documents = columns.filter((column) => isDocument(column) && row[column.name] !== null);
  return html`
    <dl class="facts">${columns.filter((column) => !documents.includes(column)).map((column) => {
      const value = row[column.name];
      const filter = filterLink && value !== null
        && filters.some(({ column: name }) => name === column.name);
      return html`<dt key=${column.name}>${column.name}</dt>
        <dd key=${`${column.name} value`}><span data-column=${column.name}><${Value}
          column=${column} value=${value} whole=${true} /></span>${filter && html` <a class="only"
          href=${filterLink(column.name, value)} aria-label=${`Only rows with this ${column.name}`}
          title=${`Only rows with this ${column.name}`}>only these</a>`}${
          typeof value === 'string' && html`<${Unseen} text=${value} />`}</dd>`;
    })}</dl>
    <${Verifying} chain=${row.chain} id=${row.id} shown=${row} />
    ${documents.map((column) => html`<${DocumentOf} key=${column.name} row=${row}
      column=${column} />`)}
    <${Receipt} row=${row} receipt=${receipt} />
    <${Proof} chain=${row.chain} id=${row.id} />`;
}

function DocumentOf({ row, column }) {
  const { name, type } = column;
  const title = format.words(name.replace(/_(text|base64)$/, ''));
  const file = `${row.chain}-${row.id}-${name.replace(/_(text|base64)$/, '')}`;
  return type === 'bytes'
    ? html`<${BytesDocument} name=${title} base64=${row[name]} file=${`${file}.bin`} />`
    : html`<${TextDocument} name=${title} text=${row[name]} file=${`${file}.json`} />`;
}

const fileOf = (row) => `${row.chain}-${row.id}.json`;

function Receipt({ row, receipt }) {
  return html`<section class="receipt" aria-label="Receipt">
    <header><h3>Receipt</h3><div class="actions">
      <${Copy} text=${JSON.stringify(receipt)} what="the receipt" />
      <button type="button" class="small quiet" onClick=${() => saveAs(fileOf(row),
        `${JSON.stringify(row)}\n`, 'application/json')}>Download row</button>
    </div></header>
    <dl class="facts small">${IN_RECEIPT.filter((name) => name in receipt).map((name) => html`
      <dt key=${name}>${name}</dt>
      <dd key=${`${name} value`} class="mono" data-receipt=${name}>${
        String(receipt[name])}</dd>`)}</dl>
  </section>`;
}
