// The words of checks: what each finding, verdict and kind of check means (FORMAT.md section 5).

import * as format from '../../format.js';

/** `1 leaf`, `2 leaves`. */
export function counted(number, one, many = `${one}s`) {
  return `${format.count(number)} ${number === 1 ? one : many}`;
}

/** Findings: what they mean, in the format's own words. */
export const FINDINGS = {
  content: 'A row does not hash to its row_hash, holds what cannot be hashed, or names a row that '
    + 'is not there.',
  link: 'A prev_hash is not the row_hash of the row before.',
  gap: 'An id or a leaf index is missing, or stands there twice.',
  log_mismatch: 'A row is not in the log, the log has one that is not there, or their hashes '
    + 'differ.',
  time_reversal: 'A created_at is earlier than the one before.',
  document: 'A generated JSONB column does not equal its text. The text is what counts.',
  truncated: 'The log is shorter than a checkpoint that was signed of it.',
  forked: 'The log’s root at a checkpoint’s size is another one, or a checkpoint or tile in the '
    + 'database is none of the log’s.',
  rolled_back: 'A checkpoint held outside is larger than the database’s last one, and the log does '
    + 'not have it.',
  guard_drift: 'A trigger, constraint, grant, function, role or other guard is not as the '
    + 'migrations made it. It locks nothing.',
};

/** What such a finding means, for one that this page does not know, too. */
export function meaningOf(kind) {
  return FINDINGS[kind] ?? 'This page does not know this kind of finding.';
}

const OF_HISTORY = ['truncated', 'forked', 'rolled_back'];

/** What follows where a finding of this kind is acknowledged. */
export function consequenceOf(kind) {
  if (OF_HISTORY.includes(kind)) {
    return 'Acknowledging it accepts the log as it is: it goes on under another origin (…/i2, …) '
      + 'with a key of its own. Everybody who verifies needs the new verifier key.';
  }
  return 'Acknowledged, it stays listed by every check for ever and locks no more. The row stays '
    + 'as it was found; what is true is added as a further row.';
}

/** Kinds of checks that can be run, in one sentence each. */
export const CHECKS = [
  { kind: 'full', title: 'Full',
    reads: 'Reads every row from the first on, the log, all checkpoints, and the guards.' },
  { kind: 'incremental', title: 'Incremental',
    reads: 'Reads what was appended since the last checkpoint, and the guards.' },
  { kind: 'rolling', title: 'Rolling',
    reads: 'Reads the next slice of what is signed: every row within a week. And the guards.' },
];

const KINDS = {
  full: 'full', incremental: 'incremental', rolling: 'rolling',
  chain: 'one chain', checkpoint: 'before a checkpoint',
};

/** The name of a kind of check, in a sentence. */
export function nameOfCheck(kind) {
  return KINDS[kind] ?? kind;
}

/** Verdicts of a run, with the badge of each. */
export const VERDICTS = {
  verified: { badge: 'ok', word: 'all well' },
  known: { badge: 'ok', word: 'well, but for what is acknowledged' },
  tampered: { badge: 'bad', word: 'tampered' },
  rolled_back: { badge: 'bad', word: 'rolled back' },
  guard_drift: { badge: 'warn', word: 'guard drift' },
  unfinished: { badge: 'warn', word: 'could not finish' },
  nothing: { badge: 'none', word: 'no row to read' },
};

/** Whether a check of this verdict found something that nobody has acknowledged. */
export function isBad(verdict) {
  return ['tampered', 'rolled_back', 'guard_drift'].includes(verdict);
}
