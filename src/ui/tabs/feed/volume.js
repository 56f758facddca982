// How many rows came from where: what the service counts, or, of the last minutes, the feed.
import { LATER, getJson } from '../../api.js';
import { instantOf } from '../../filters.js';
import { sourceColumn } from './event.js';
import { LIVE_SECONDS } from './model.js';

const HOUR = 3600;
const FIVE_MINUTES = 300;
/** Sources with a line of their own; all others are one. */
const LINES = 6;
/** Questions at once: a chart does not take the service's connections from others. */
const AT_ONCE = 3;

/**
 * The ranges that can be looked at. `step`: seconds of a point; `steps` of them, the last of which
 * is under way. They begin at whole steps, so the service knows most of the answer already.
 */
export const RANGES = [
  { name: '5m', title: '5 minutes, live', each: 'second', step: 1, steps: LIVE_SECONDS,
    live: true },
  { name: '1h', title: '1 hour', each: '5 minutes', step: FIVE_MINUTES, steps: 12 },
  { name: '24h', title: '24 hours', each: 'hour', step: HOUR, steps: 24 },
  { name: '7d', title: '7 days', each: 'hour', step: HOUR, steps: 7 * 24 },
];

/** The range of this name, else that of a day. */
export function rangeOf(name) {
  return RANGES.find((range) => range.name === name) ?? RANGES[2];
}

/** The beginnings of a range's steps, in seconds since 1970. */
export function stepsOf({ step, steps }, now = Date.now()) {
  const last = Math.floor(now / 1000 / step) * step;
  return Array.from({ length: steps }, (_, at) => last - (steps - 1 - at) * step);
}

/** Of a filter's bounds on time and those of a range, the narrower; null where nothing is left. */
export function bounded(filters, from, to = null) {
  const time = (text) => (text ? Date.parse(text) : NaN);
  const bounds = { from: instantOf(new Date(from * 1000)) };
  if (time(filters.from) > from * 1000) bounds.from = filters.from;
  if (to !== null) bounds.to = instantOf(new Date(to * 1000));
  if (filters.to && !(time(filters.to) >= time(bounds.to))) bounds.to = filters.to;
  if (time(bounds.from) >= time(bounds.to)) return null;
  return { ...filters, ...bounds };
}

/** A chain's groups, none where the bounds leave nothing. */
export async function statsOf(chain, query, signal) {
  if (query === null) return [];
  return (await getJson(`v1/${chain}/stats`, query, { signal, ...LATER })).groups;
}

/** Does something with each, so many at once, and returns the results in their order. */
export async function eachOf(list, act) {
  const results = [];
  let next = 0;
  async function work() {
    while (next < list.length) {
      const at = next;
      next += 1;
      results[at] = await act(list[at]);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return results;
}

/** Groups by the hour, as values of the steps. */
export function byHour(steps, groups, read) {
  const values = new Map(groups.map((group) => [Date.parse(group.group) / 1000, read(group)]));
  return steps.map((step) => values.get(step));
}

/** The sources of the chains since then, with how many rows they brought, the largest first. */
export async function sourcesOf(chains, filters, from, signal) {
  const found = await eachOf(chains, async (chain) => {
    const query = bounded(filters, from);
    const group_by = sourceColumn(chain);
    const groups = await statsOf(chain, query && { ...query, group_by }, signal);
    return groups.map(({ group, count }) => ({ chain, name: group, count }));
  });
  return found.flat().sort((one, other) => other.count - one.count);
}

/**
 * The rows of each step by source, as the service counts them.
 * @returns {Promise<{x: number[], series: object[]}>} as a chart takes it
 */
export async function countedVolume(chains, filters, range, signal) {
  const steps = stepsOf(range);
  return range.step === HOUR ? hourly(chains, filters, steps, signal)
    : stepwise(chains, filters, steps, range.step, signal);
}

async function hourly(chains, filters, steps, signal) {
  const sources = await sourcesOf(chains, filters, steps[0], signal);
  const named = sources.filter(({ name }) => name !== null).slice(0, LINES);
  const query = bounded(filters, steps[0]);
  const count = async (chain, more) => byHour(
    steps, await statsOf(chain, query && { ...query, ...more, group_by: 'hour' }, signal),
    (group) => group.count,
  ).map((value) => value ?? 0);
  const lines = await eachOf(named, async (source) => ({
    source, values: await count(source.chain, { [sourceColumn(source.chain)]: source.name }),
  }));
  let rest = null;
  if (sources.length > named.length) {
    const totals = await eachOf(chains, (chain) => count(chain, {}));
    rest = steps.map((_, at) => sumAt(totals, at) - sumAt(lines.map(({ values }) => values), at));
  }
  return charted(steps, lines, rest, sources.length - named.length);
}

/** Where there are no groups of such a length: each step is a question. */
async function stepwise(chains, filters, steps, step, signal) {
  const asked = steps.flatMap((from) => chains.map((chain) => ({ from, chain })));
  const answers = await eachOf(asked, async ({ from, chain }) => {
    const query = bounded(filters, from, from + step);
    return statsOf(chain, query && { ...query, group_by: sourceColumn(chain) }, signal);
  });
  const counts = new Map();
  asked.forEach(({ from, chain }, at) => answers[at].forEach(({ group, count }) => {
    add(counts, { chain, name: group }, steps.indexOf(from), count, steps.length);
  }));
  return largest(steps, counts);
}

/** The rows of each second by source, as the feed brought them since it is looked at. */
export function liveVolume(model, since, now = Date.now()) {
  // The service's clock may be ahead of this one.
  const last = Math.max(Math.floor(now / 1000) - 1, Math.max(0, ...model.seconds.keys()) - 1);
  const steps = Array.from({ length: LIVE_SECONDS }, (_, at) => last - (LIVE_SECONDS - 1 - at));
  const counts = new Map();
  steps.forEach((second, at) => {
    for (const [key, count] of model.seconds.get(second) ?? []) {
      add(counts, model.sources.get(key), at, count, steps.length);
    }
  });
  const { x, series } = largest(steps, counts);
  // Before the second in which it was opened, nobody counted.
  const began = steps.findIndex((second) => second >= Math.floor(since / 1000));
  const known = (values) => values.map((value, at) => (began < 0 || at < began ? null : value));
  return { x, series: series.map((one) => ({ ...one, values: known(one.values) })) };
}

function add(counts, source, at, count, length) {
  const key = keyOf(source);
  let had = counts.get(key);
  if (!had) counts.set(key, had = { source, total: 0, values: Array(length).fill(0) });
  had.values[at] += count;
  had.total += count;
}

function largest(steps, counts) {
  const all = [...counts.values()].sort((one, other) => other.total - one.total);
  const others = all.slice(LINES).map(({ values }) => values);
  const rest = others.length === 0 ? null : steps.map((_, at) => sumAt(others, at));
  return charted(steps, all.slice(0, LINES), rest, others.length);
}

function sumAt(lists, at) {
  return lists.reduce((total, values) => total + values[at], 0);
}

function keyOf({ chain, name }) {
  return `${chain} ${name}`;
}

function charted(x, lines, rest, others) {
  const names = lines.map(({ source }) => source.name);
  const series = lines.map(({ source: { chain, name }, values }) => ({
    key: keyOf({ chain, name }),
    // The same name in two chains: a key and a module.
    label: names.filter((one) => one === name).length > 1 ? `${name} (${chain})` : name ?? '–',
    title: `${name ?? '–'}: ${sourceColumn(chain)} of ${chain}`,
    values,
    total: values.reduce((all, value) => all + value, 0),
  }));
  if (rest) {
    const total = rest.reduce((all, value) => all + value, 0);
    const label = `${others} more`;
    series.push({ key: 'rest', label, title: 'all other sources', values: rest, total });
  }
  return { x, series };
}
