// What is signed of the log, and who keeps it outside the database.
import { getText } from '../../api.js';
import * as format from '../../format.js';
import {
  Age, Badge, Copy, ErrorNotice, Notice, Panel, Short, Table, Time, useNow,
} from '../../parts.js';
import { html, useState } from '../../preact.js';
import { counted } from './kinds.js';

/** Rows that wait longer than this wait too long: one is signed every few seconds. */
const WAITING_MS = 2 * 60_000;
/** One is signed this often also where no row came. */
const HEARTBEAT_MS = 20 * 60_000;

/** The last checkpoint. */
export function Checkpoint({ checkpoint, locked }) {
  const now = useNow(10_000);
  if (!checkpoint) {
    return html`<${Panel} title="Checkpoint">
      <${Notice} kind="warn" title="Nothing is signed of this log">
        <p>Whoever controls the database could rewrite it unseen. With a signing key
          (<code>LEDGER_SIGNING_KEY</code>) the service signs a checkpoint every few seconds.</p>
      <//><//>`;
  }
  const age = now - Date.parse(checkpoint.signed_at);
  const { leaves_behind: behind } = checkpoint;
  const isLate = (behind > 0 && age > WAITING_MS) || age > HEARTBEAT_MS;
  const download = html`<${Download} checkpoint=${checkpoint} />`;
  return html`<${Panel} title="Checkpoint" actions=${download}>
    ${isLate && html`<${Notice} kind="warn" title=${behind > 0
      ? `${counted(behind, 'leaf is', 'leaves are')} not signed, and the last checkpoint is ${
        format.duration(age)} old` : `The last checkpoint is ${format.duration(age)} old`}>
      <p>${locked ? 'What does not add up is not signed.'
        : 'Unless LEDGER_CHECKPOINT_INTERVAL_S is that long, no service signs: see its log.'}</p>
    <//>`}
    <dl class="facts">
      <dt>Origin</dt><dd class="mono">${checkpoint.origin}</dd>
      <dt>Incarnation</dt><dd>${checkpoint.incarnation}${checkpoint.incarnation > 1
        ? ': another history was accepted before' : ''}</dd>
      <dt>Tree size</dt><dd id="tree-size">${counted(checkpoint.tree_size, 'leaf', 'leaves')}${' '}
        <${Badge} kind=${behind === 0 ? 'ok' : isLate ? 'warn' : 'info'}>${behind === 0
          ? 'covers every row' : `${counted(behind, 'leaf', 'leaves')} behind`}<//></dd>
      <dt>Root hash</dt><dd><code>${checkpoint.root_hash}</code>${' '}
        <${Copy} text=${checkpoint.root_hash} what="root hash" /></dd>
      <dt>Signed</dt><dd><${Time} at=${checkpoint.signed_at} /> ${format.zoneName()},${' '}
        <${Age} at=${checkpoint.signed_at} /></dd>
      ${checkpoint.vkeys.map((vkey) => html`<dt key=${`t${vkey}`}>Verifier key</dt>
        <dd key=${vkey}><${Short} text=${vkey} head=${28} tail=${8} />${' '}
          <${Copy} text=${vkey} what="verifier key" /></dd>`)}
    </dl>
    <small class="muted">Whoever verifies takes the verifier key from elsewhere, once: a server’s
      word on its own keys proves nothing.</small>
  <//>`;
}

/** The signed note as a file. A link cannot send the key. */
function Download({ checkpoint }) {
  const [error, setError] = useState(null);
  async function download() {
    setError(null);
    try {
      const note = await getText('log/checkpoint');
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([note], { type: 'text/plain' }));
      link.download = `checkpoint-${note.split('\n')[1] ?? checkpoint.tree_size}.txt`;
      link.click();
      // The browser may still be reading it.
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (caught) {
      setError(caught);
    }
  }
  return html`<button type="button" class="small" onClick=${download}>
      Download the signed note</button>
    <${ErrorNotice} error=${error} />`;
}

/** Who keeps checkpoints outside the database. */
export function Anchors({ anchors, checkpoint }) {
  if (!checkpoint) return null;
  const rows = anchors.map((anchor) => ({
    ...anchor, behind: checkpoint.tree_size - (anchor.tree_size ?? 0),
  }));
  return html`<${Panel} title="Anchors">
    ${rows.length === 0 ? html`<${Notice} kind="warn" title="No anchor is configured">
      <p>Checkpoints are in the database alone. Whoever controls it and the signing key could
        rewrite the history and sign it again. Name places that others control in${' '}
        <code>LEDGER_ANCHORS</code>: a folder, a web server, a bucket, a timestamp authority or a
        witness.</p><//>`
      : html`<${Table} caption="Anchors" columns=${COLUMNS} rows=${rows} keys=${false}
        keyOf=${({ anchor }) => anchor} />`}
  <//>`;
}

const COLUMNS = [
  { name: 'anchor', title: 'Anchor', show: ({ anchor }) => html`<span class="mono"
    title=${anchor}>${format.short(anchor, 36, 12)}</span>` },
  { name: 'state', title: 'State', show: ({ tree_size: size, behind }) => {
    if (size === null) return html`<${Badge} kind="warn">never confirmed<//>`;
    if (behind > 0) return html`<${Badge} kind="warn">behind<//>`;
    return html`<${Badge} kind="ok">has it<//>`;
  } },
  { name: 'tree_size', title: 'Tree size', align: 'right', show: ({ tree_size: size }) => (
    format.count(size)) },
  { name: 'behind', title: 'Leaves behind', align: 'right', show: ({ behind }) => (
    format.count(Math.max(0, behind))) },
  { name: 'age', title: 'Confirmed', show: ({ confirmed_at: at }) => html`<${Age} at=${at} />` },
];
