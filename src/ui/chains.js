// What the chains consist of, as the service itself describes them. Nothing here repeats it.
import { getJson } from './api.js';
import { observable } from './observable.js';

/** The chains in ledger order (`/v1/chains`), or null until they are known. */
export const chains = observable(null);

/** Loads the description. */
export async function loadChains() {
  const { chains: described } = await getJson('v1/chains');
  chains.set(described);
}

/** The description of a chain. */
export function chainOf(name) {
  return chains.get()?.find((chain) => chain.name === name) ?? null;
}

/** The filters that each of these chains takes, as the first of them describes them. */
export function filtersOf(names) {
  const [first, ...others] = names.map(chainOf).filter(Boolean);
  if (!first) return [];
  const isKnown = (name) => others.every(({ filters }) => filters.some((had) => had.name === name));
  return first.filters.filter(({ name }) => isKnown(name));
}

/** Those of the given parameters that filter. */
export function givenFilters(filters, query) {
  return Object.fromEntries(filters.map(({ name }) => [name, query[name]]).filter(([, v]) => v));
}
