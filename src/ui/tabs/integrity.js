// Integrity Check: whether the ledger is what was recorded, how that is known, and what to do where
// it is not.
import { getJson, lockedSince } from '../api.js';
import { useContentMark, useSettled } from '../measure.js';
import { useObservable } from '../observable.js';
import { Busy, ErrorNotice, useInterval, useLoad } from '../parts.js';
import { html, useCallback, useEffect, useMemo, useRef, useState } from '../preact.js';
import { Calendar } from './integrity/calendar.js';
import { Chains } from './integrity/chains.js';
import { RunCheck } from './integrity/check.js';
import { Anchors, Checkpoint } from './integrity/checkpoint.js';
import { Findings } from './integrity/findings.js';
import { Glance } from './integrity/glance.js';
import { loadHeads } from './integrity/heads.js';
import { history, newestChecks, refresh } from './integrity/history.js';
import { Lockdown } from './integrity/lockdown.js';
import { PastChecks } from './integrity/past.js';
import { acknowledge, lineOf, runOf } from './integrity/runs.js';
import { findingsNow, liftedBy } from './integrity/verdict.js';

const LOOK_EVERY_MS = 10_000;
const HEADS_EVERY_MS = 20_000;

/** The tab. */
export function Integrity() {
  const asked = useLoad((signal) => getJson('v1/integrity', {}, { signal }), []);
  const lockdown = useLoad((signal) => getJson('v1/lockdown', {}, { signal }), []);
  const heads = useLoad(loadHeads, []);
  const checks = useObservable(history);
  const [turn, setTurn] = useState(0);
  const look = useCallback(() => {
    asked.reload();
    lockdown.reload();
    refresh();
  }, []);
  const onChange = useCallback(() => {
    look();
    heads.reload();
    setTurn((had) => had + 1);
  }, []);
  useEffect(() => { refresh(); }, []);
  useInterval(look, LOOK_EVERY_MS);
  useInterval(heads.reload, HEADS_EVERY_MS);
  // Somebody else's check may have locked it down, or another admin may have lifted that.
  const locked = useObservable(lockedSince);
  const isOld = asked.data !== null && asked.data.locked !== (locked !== null);
  useEffect(() => {
    if (isOld) look();
  }, [isOld]);
  // What failed with it may be there again, too.
  const wasAway = useRef(false);
  useEffect(() => {
    if (wasAway.current && !asked.error) onChange();
    wasAway.current = asked.error !== null;
  }, [asked.error]);
  const known = useMemo(
    () => asked.data && knownOf(asked.data, lockdown.data, checks),
    [asked.data, lockdown.data, checks],
  );
  // A panel that is moved loses the focus: where it came up it stays.
  const isRaised = useRef(false);
  isRaised.current = isRaised.current || known?.integrity.locked === true;
  useContentMark('integrity', known !== null);
  const settled = useSettled(known !== null);
  if (!known) {
    return asked.error ? html`<${ErrorNotice} error=${asked.error} again=${asked.reload} />`
      : html`<${Busy}>Asking how the ledger stands…<//>`;
  }
  const { integrity, newest, findings, counted } = known;
  const shown = html`<${Lockdown} key="lockdown" lockdown=${lockdown} findings=${findings}
    onChange=${onChange} />`;
  return html`<div class="stack integrity">
    <${ErrorNotice} error=${asked.error} again=${asked.reload} />
    <div class="glance-and-check">
      <${Glance} integrity=${integrity} lockdown=${lockdown.data} runs=${checks.runs}
        newest=${newest} heads=${heads.data} findings=${findings} />
      <${RunCheck} onEnd=${onChange} />
    </div>
    ${findings.length > 0 && html`<${Findings} findings=${findings} counted=${counted}
      history=${checks} />`}
    ${isRaised.current && shown}
    ${settled && html`
      <${Chains} integrity=${integrity} heads=${heads} />
      <div class="halves">
        <${Checkpoint} checkpoint=${integrity.checkpoint} locked=${integrity.locked} />
        <${Anchors} anchors=${integrity.anchors} checkpoint=${integrity.checkpoint} />
      </div>
      <${Calendar} turn=${turn} />
      <${PastChecks} />`}
    ${!isRaised.current && shown}
  </div>`;
}

/** What was asked with what was acknowledged since, and the findings that stand. */
function knownOf(asked, lockdown, { runs }) {
  const lifted = liftedBy(lockdown);
  const lastCheck = asked.last_check.map((check) => acknowledge(check, lifted));
  const integrity = { ...asked, last_check: lastCheck };
  const listed = newestChecks().map((check) => acknowledge(check, lifted));
  const newest = listed.length > 0 ? runOf(listed.map(lineOf)) : runs[0] ?? null;
  const isNewer = newest && newest.id !== lastCheck[0]?.run_id;
  const findings = findingsNow(isNewer ? [...lastCheck, ...listed] : lastCheck, lockdown);
  const counted = lastCheck.reduce((total, check) => total + check.findings_count, 0);
  return { integrity, newest, findings, counted };
}
