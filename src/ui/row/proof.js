// The proof that a row is in the log, and the checkpoint that it leads to.
import { ApiError, getText } from '../api.js';
import { saveAs } from '../download.js';
import * as format from '../format.js';
import { Busy, Copy, ErrorNotice, Notice, useLoad } from '../parts.js';
import { html, useEffect, useState } from '../preact.js';
import { parseCheckpoint } from '../verify.js';

/** No checkpoint covers the row yet. */
export const NOT_COVERED = 'PRF-001';

/** Whether the service refused a proof since there is none yet. */
export function isNotCovered(error) {
  return error instanceof ApiError && error.code === NOT_COVERED;
}

/**
 * The proof of a row as a text (C2SP tlog-proof), for whoever verifies it elsewhere.
 * @param {{chain: string, id: number}} props
 */
export function Proof({ chain, id }) {
  const { data, error, loading, reload } = useLoad(
    (signal) => getText(`v1/proofs/${chain}/${id}`, { format: 'tlog-proof' }, { signal })
      .then((text) => ({ of: `${chain}/${id}`, text })),
    [chain, id],
  );
  const waits = isNotCovered(error);
  useEffect(() => {
    if (!waits || loading) return undefined;
    // The service says when the next checkpoint is likely.
    const timer = setTimeout(reload, (error.retryAfter ?? 5) * 1000);
    return () => clearTimeout(timer);
  }, [waits, loading, error, reload]);
  const text = data?.of === `${chain}/${id}` ? data.text : null;
  return html`<section class="proof" aria-label="Proof">
    <header><h3>Proof</h3><div class="actions">
      ${text && !error && html`<${Copy} text=${text} what="the proof" />
        <button type="button" class="small quiet" aria-label="Download the proof"
          onClick=${() => saveAs(fileOf(chain, id), text, 'text/plain')}>Download</button>`}
    </div></header>
    ${waits && html`<${Notice} kind="none" title="Not proved yet: no checkpoint covers this row.">
      Checkpoints are signed every few seconds. It is asked for again by itself.<//>`}
    ${error && !waits && html`<${ErrorNotice} error=${error} again=${reload} />`}
    ${!error && (text ? html`<${Shown} chain=${chain} id=${id} text=${text} />`
      : html`<${Busy}>Loading the proof…<//>`)}
  </section>`;
}

function Shown({ chain, id, text }) {
  const [open, setOpen] = useState(false);
  const checkpoint = checkpointOf(text);
  return html`
    ${checkpoint ? html`<dl class="facts small">
      <dt>log</dt><dd class="mono">${checkpoint.origin}</dd>
      <dt>tree size</dt><dd>${format.count(checkpoint.treeSize)} leaves</dd>
      <dt>root hash</dt><dd class="mono">${checkpoint.rootHash}</dd>
    </dl>` : html`<${Notice} kind="bad" title="The proof ends with no checkpoint." />`}
    <details open=${open} onToggle=${(event) => setOpen(event.target.open)}>
      <summary>The text, as C2SP tlog-proof has it</summary>
      <pre tabindex="0" role="group" aria-label="Proof as tlog-proof">${text}</pre>
      <p class="muted"><small>Offline, with the row (Download row): <code>ledger-verify proof ${
        fileOf(chain, id)} --row ${chain}-${id}.json --key vkey.txt</code></small></p>
    </details>`;
}

const fileOf = (chain, id) => `${chain}-${id}.tlog-proof`;

/** The checkpoint stands behind the first empty line. */
function checkpointOf(proof) {
  try {
    return parseCheckpoint(proof.slice(proof.indexOf('\n\n') + 2));
  } catch {
    return null;
  }
}
