// Whether the ledger stands, in a word, on every tab.
import { LATER, getJson, lockedSince } from './api.js';
import { useObservable } from './observable.js';
import { Age, Badge, useInterval, useLoad, useNow } from './parts.js';
import { html } from './preact.js';
import { linkTo } from './route.js';
import { acknowledge, lineOf, runsOf } from './tabs/integrity/runs.js';
import { judge, liftedBy } from './tabs/integrity/verdict.js';

const LOOK_EVERY_MS = 10_000;
/** At least as many lines as a run has: the chains, the log and the guards. */
const LINES_OF_A_RUN = 20;

const WORDS = {
  bad: ['bad', 'findings'], drift: ['warn', 'guard drift'], unfinished: ['warn', 'not finished'],
  never: ['warn', 'never checked'], old: ['warn', 'last checked'], partial: ['ok', 'verified'],
  well: ['ok', 'verified'],
};

async function look(signal) {
  const [integrity, checks, lockdown] = await Promise.all([
    getJson('v1/integrity', {}, { signal, ...LATER }),
    getJson('v1/integrity/checks', { limit: LINES_OF_A_RUN }, { signal, ...LATER }),
    getJson('v1/lockdown', {}, { signal, ...LATER }),
  ]);
  const lifted = liftedBy(lockdown);
  const known = (check) => acknowledge(check, lifted);
  const [newest = null] = runsOf(checks.items.map((check) => lineOf(known(check))));
  return { integrity: { ...integrity, last_check: integrity.last_check.map(known) }, newest };
}

/** A badge that leads to Integrity Check. */
export function Standing() {
  const locked = useObservable(lockedSince);
  const now = useNow(LOOK_EVERY_MS);
  const { data, reload } = useLoad(look, []);
  useInterval(reload, LOOK_EVERY_MS);
  if (locked) return html`<a href=${linkTo('integrity')}><${Badge} kind="bad">locked down<//></a>`;
  if (!data) return null;
  // What was asked for may be older than a lift.
  const integrity = { ...data.integrity, locked: false };
  const { name, last } = judge({ ...data, integrity, runs: [], now });
  const [kind, word] = WORDS[name];
  return html`<a href=${linkTo('integrity')}><${Badge} kind=${kind}>${word}${
    last && html` <${Age} at=${last.at} />`}<//></a>`;
}
