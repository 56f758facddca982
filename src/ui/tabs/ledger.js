// The Audit Ledger: every row of every chain, and the story of every trade.
import { chainOf, chains, filtersOf, givenFilters } from '../chains.js';
import * as format from '../format.js';
import { useObservable } from '../observable.js';
import { Empty, Panel } from '../parts.js';
import { html } from '../preact.js';
import { linkTo, route } from '../route.js';
import { Story } from '../story.js';
import { ChainList } from './ledger/list.js';
import { TradesList } from './ledger/trades.js';

/** The view beside the chains. */
const TRADES = 'trades';
/** What stays when somebody goes on to another chain: the same in all of them. */
const KEPT = ['from', 'to', 'symbol', 'side', 'correlation_id', 'recorded_by'];

export function Ledger() {
  const { rest, query } = useObservable(route);
  const known = useObservable(chains);
  const [name = known[0]?.name, ...path] = rest;
  return html`<${Lists} names=${known.map((chain) => chain.name)} name=${name} query=${query} />
    <${Shown} key=${[name, ...path].join('/')} name=${name} path=${path} query=${query} />`;
}

function Shown({ name, path, query }) {
  const chain = chainOf(name);
  if (name === TRADES && path.length === 0) return html`<${TradesList} query=${query} />`;
  if (name === TRADES && path.length === 1) {
    return html`<${Story} correlationId=${path[0]} query=${query} />`;
  }
  if (chain && path.length === 0) return html`<${ChainList} chain=${chain} query=${query} />`;
  return html`<${Panel} title="Not found"><${Empty} title=${
    `There is no chain ${format.short([name, ...path].join('/'), 40, 8)}.`}>
    <p>The chains are listed above. <a href=${linkTo('ledger')}>Show the first</a></p><//><//>`;
}

function Lists({ names, name, query }) {
  const linkOf = (other) => {
    const filters = filtersOf([other]).filter((filter) => KEPT.includes(filter.name));
    const kept = { ...givenFilters(filters, query), order: orderOf(other, query) };
    return linkTo('ledger', [other], kept);
  };
  return html`<nav class="lists" aria-label="Chains">${[...names, TRADES].map((other) => html`
    <a key=${other} href=${linkOf(other)} aria-current=${other === name ? 'page' : undefined}
      class=${other === TRADES ? 'view' : ''}>${format.words(other)}</a>`)}</nav>`;
}

const orderOf = (other, { order }) => (other === TRADES ? null : order);
