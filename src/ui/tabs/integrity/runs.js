// What the record of checks says: runs, their verdicts, and when rows were last read. No DOM.

/** What is in the list of checks and no chain. */
export const LOG = 'ledger_log';
export const GUARDS = 'guards';

/**
 * A line of the list of checks as far as it is kept. Findings are counted; those beyond the ones
 * that the list shows count as new.
 */
export function lineOf(check) {
  const listed = check.findings;
  const known = listed.filter(({ acknowledged }) => acknowledged).length;
  const fresh = listed.filter(({ acknowledged }) => !acknowledged);
  const unlisted = check.findings_count - listed.length;
  return {
    id: check.id, runId: check.run_id, chain: check.chain, kind: check.kind,
    start: check.range_start, end: check.range_end,
    expected: check.expected_count, rows: check.actual_count,
    finished: check.finished, valid: check.chain_valid,
    findings: check.findings_count, known, fresh: check.findings_count - known,
    isBehindAlone: unlisted === 0 && fresh.every(({ kind }) => kind === 'rolled_back'),
    ms: check.duration_ms, at: check.checked_at,
  };
}

/** A check in which those findings are acknowledged that were since. */
export function acknowledge(check, lifted) {
  const findings = check.findings.map((finding) => (
    lifted.has(finding.finding_id) ? { ...finding, acknowledged: true } : finding));
  return { ...check, findings };
}

/**
 * Runs, the newest first, of lines that are: `{id, kind, at, ms, lines, rows, findings, fresh,
 * known, verdict}`.
 */
export function runsOf(lines) {
  const byId = new Map();
  for (const line of lines) {
    const had = byId.get(line.runId);
    if (had) had.push(line);
    else byId.set(line.runId, [line]);
  }
  return [...byId.values()].map(runOf);
}

/** The run that made these lines. */
export function runOf(lines) {
  const sum = (of, name) => of.reduce((total, line) => total + line[name], 0);
  const ofChains = lines.filter(({ chain }) => chain !== LOG && chain !== GUARDS);
  const [first] = lines;
  return {
    id: first.runId, kind: first.kind, ms: first.ms, lines,
    at: lines.reduce((latest, { at }) => (at > latest ? at : latest), first.at),
    rows: sum(ofChains, 'rows'), findings: sum(lines, 'findings'), fresh: sum(lines, 'fresh'),
    known: sum(lines, 'known'), verdict: verdictOf(lines),
  };
}

/** The verdict over the lines of a run, the worst first, as the service has it. */
export function verdictOf(lines) {
  const withNew = lines.filter(({ fresh }) => fresh > 0);
  const ofRows = withNew.filter(({ chain }) => chain !== GUARDS);
  if (ofRows.some(({ isBehindAlone }) => !isBehindAlone)) return 'tampered';
  if (ofRows.length > 0) return 'rolled_back';
  if (withNew.length > 0) return 'guard_drift';
  if (lines.some(({ finished }) => !finished)) return 'unfinished';
  if (lines.some(({ known }) => known > 0)) return 'known';
  const read = lines.filter(({ chain }) => chain !== GUARDS);
  return read.some(({ rows }) => rows > 0) ? 'verified' : 'nothing';
}

/**
 * When the rows from `first` to `last` were last read: lines of their chain, the newest first, are
 * taken until together they cover them.
 * @returns {{by: object | null, missing: number[][]}} `by`: the oldest line that it takes, so that
 *   all but the `missing` ranges of ids were read then or later
 */
export function lastRead(lines, first, last) {
  let missing = [[first, last]];
  let by = null;
  for (const line of lines) {
    if (!line.finished || line.start === null) continue;
    const left = missing.flatMap((range) => without(range, line));
    if (countOf(left) < countOf(missing)) by = line;
    missing = left;
    if (missing.length === 0) break;
  }
  return { by, missing };
}

/** How many ids ranges have. */
export function countOf(ranges) {
  return ranges.reduce((total, [from, to]) => total + to - from + 1, 0);
}

/** What of a range of ids a line does not cover. */
function without([from, to], { start, end }) {
  if (end < from || start > to) return [[from, to]];
  const left = [];
  if (from < start) left.push([from, start - 1]);
  if (end < to) left.push([end + 1, to]);
  return left;
}

const DAY_MS = 24 * 3600 * 1000;

/** The UTC day of an instant: `2026-11-22`. */
export function dayOf(instant) {
  return instant.slice(0, 10);
}

/** The day so many days later. */
export function plusDays(day, days) {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);
}

/** 0 for a Monday to 6 for a Sunday. */
export function weekdayOf(day) {
  return (new Date(`${day}T00:00:00Z`).getUTCDay() + 6) % 7;
}

/** States of a day: the sign of its cell and what it says. */
export const DAYS = {
  ok: { sign: '✓', means: 'checked, all well' },
  known: { sign: '✱', means: 'checked, well but for what is acknowledged' },
  bad: { sign: '✗', means: 'checked, findings' },
  unfinished: { sign: '!', means: 'a check could not finish' },
  unchecked: { sign: '·', means: 'rows were recorded, no check ran' },
  unknown: { sign: '?', means: 'its checks are not loaded' },
  empty: { sign: '', means: 'nothing recorded, no check ran' },
};

/**
 * What a day was.
 * @param {object[]} runs of that day, the newest first
 * @param {number} rows recorded on it
 * @param {boolean} isKnown whether all of its runs are loaded
 */
export function stateOfDay(runs, rows, isKnown) {
  const verdicts = runs.map(({ verdict }) => verdict).filter((verdict) => verdict !== 'nothing');
  const bad = verdicts.some((verdict) => !['verified', 'known', 'unfinished'].includes(verdict));
  if (bad) return 'bad';
  if (!isKnown) return 'unknown';
  // What could not finish and was made up for later that day is no gap.
  if (verdicts[0] === 'unfinished') return 'unfinished';
  if (verdicts.includes('known')) return 'known';
  if (verdicts.length > 0) return 'ok';
  return rows > 0 ? 'unchecked' : 'empty';
}
