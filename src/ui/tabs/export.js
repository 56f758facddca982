// What leaves the ledger: exports of its rows, its rows played again, and what was in quarantine.
import { chainOf } from '../chains.js';
import { useContentMark } from '../measure.js';
import { useObservable } from '../observable.js';
import { Notice, Panel } from '../parts.js';
import { html, useState } from '../preact.js';
import { Quarantine } from '../quarantine.js';
import { linkTo, route } from '../route.js';
import { can } from '../session.js';
import { Builder } from './export/builder.js';
import { Replay } from './export/replay.js';

/** The chain whose export is built where the URL names none. */
const FIRST_CHAIN = 'signals';

/**
 * `#export/signals?symbol=BTCUSD&format=csv` builds an export of a chain, `#export/replay?…` plays
 * rows again, and `#export/quarantine?…` lists deliveries.
 */
export function Export() {
  const { rest: [part = FIRST_CHAIN] } = useObservable(route);
  const [listed, setListed] = useState(false);
  const isBuilder = !['replay', 'quarantine'].includes(part);
  useContentMark('export', part === 'quarantine' ? listed || !can('read') : true);
  const section = (name, title, isShown) => html`<a href=${linkTo('export', name)}
    aria-current=${isShown ? 'page' : undefined}>${title}</a>`;
  return html`
    <nav class="sections" aria-label="Export, replay and quarantine">
      ${section([], 'Export', isBuilder)}
      ${section(['replay'], 'Replay', part === 'replay')}
      ${section(['quarantine'], 'Quarantine', part === 'quarantine')}
    </nav>
    ${part === 'quarantine' ? html`<${Quarantine} onReady=${() => setListed(true)} />`
      : !can('export') ? html`<${NoScope} title=${isBuilder ? 'Export' : 'Replay'} />`
        : part === 'replay' ? html`<${Replay} />`
          : html`<${Builder} chain=${chainOf(part) ? part : null} named=${part} />`}`;
}

function NoScope({ title }) {
  return html`<${Panel} title=${title}>
    <${Notice} kind="warn" title="This key may not take rows out of the ledger">
      Exports and replays need the scope <code>export</code>. Whoever runs the service makes
      keys: <code>audit-ledger keys create</code>. Single rows are on${' '}
      <a href=${linkTo('ledger')}>Audit Ledger</a>.
    <//>
  <//>`;
}
