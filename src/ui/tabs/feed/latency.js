// How long signals of producers were on their way, as the service counts it.
import { bounded, byHour, eachOf, statsOf, stepsOf } from './volume.js';

/** The chain whose rows have a latency. */
export const MEASURED = 'signal_audit_ledger';
const SHARES = ['p50', 'p95', 'p99'];
const HOUR = 3600;

/**
 * The percentiles of each step, and of the whole range.
 * @returns {Promise<{x: number[], series: object[], whole: object | null}>} `whole`: the group of
 *   all rows, or null where there is none
 */
export async function measuredLatency(filters, range, signal) {
  const steps = stepsOf(range);
  const query = bounded(filters, steps[0]);
  const [whole = null] = await statsOf(MEASURED, query, signal);
  const ofStep = async (from) => (
    await statsOf(MEASURED, bounded(filters, from, from + range.step), signal))[0];
  const ofHours = () => statsOf(MEASURED, query && { ...query, group_by: 'hour' }, signal);
  const groups = range.step === HOUR ? byHour(steps, await ofHours(), (group) => group)
    : await eachOf(steps, ofStep);
  const series = SHARES.map((share) => ({
    key: share,
    label: share,
    title: `${share}: ${share.slice(1)} of 100 signals took no longer`,
    values: groups.map((group) => group?.latency_ms?.[share] ?? null),
    total: whole?.latency_ms?.[share] ?? null,
  }));
  const isMeasured = series.some(({ values }) => values.some((value) => value !== null));
  return { x: steps, series: isMeasured ? series : [], whole };
}
