// The state of the ledger at a glance: what is wrong, since when, and what to do next.
import * as format from '../../format.js';
import { Age, Time, useNow } from '../../parts.js';
import { html } from '../../preact.js';
import { linkTo } from '../../route.js';
import { can } from '../../session.js';
import { goTo } from './focus.js';
import { VERDICTS, counted, nameOfCheck } from './kinds.js';
import { judge, rowsSince } from './verdict.js';

const LOOKS = {
  locked: ['bad', '✗'], bad: ['bad', '✗'], drift: ['warn', '!'], unfinished: ['warn', '!'],
  never: ['warn', '!'], old: ['warn', '!'], partial: ['ok', '✓'], well: ['ok', '✓'],
};

/** The verdict, the checks that it stands on, and the next steps. */
export function Glance({ integrity, lockdown, runs, newest, heads, findings }) {
  const now = useNow(30_000);
  const judged = judge({ integrity, runs, newest, now });
  const [kind, sign] = LOOKS[judged.name];
  const steps = stepsOf(judged, lockdown);
  return html`<section class=${`panel glance ${kind}`} aria-labelledby="glance-title">
    <h2 id="glance-title"><span class="sign" aria-hidden="true">${sign}</span>
      <span>${titleOf(judged, integrity)}</span></h2>
    ${judged.name === 'locked' && html`<p class="why">${
      sayWhy(findings) || integrity.lock_reason}</p>`}
    <${Facts} judged=${judged} integrity=${integrity} heads=${heads} findings=${findings}
      lockdown=${lockdown} />
    ${steps.length > 0 && html`<h3>What to do next</h3>
      <ol>${steps.map((step, at) => html`<li key=${at}>${step}</li>`)}</ol>`}
  </section>`;
}

/** Findings by kind and chain, without the hashes: those stand below. */
function sayWhy(findings) {
  const counts = new Map();
  for (const { kind, chain, state } of findings) {
    const what = `${kind} in ${chain}`;
    if (state === 'locks') counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return [...counts].map(([what, count]) => `${format.count(count)} × ${what}`).join(', ');
}

function titleOf({ name, full, last, bad }, integrity) {
  const findings = (run) => counted(run.fresh, 'finding');
  if (name === 'locked') {
    return html`Locked down since <${Time} at=${integrity.locked_since} digits=${0} /> ${
      format.zoneName()}: the ledger takes no rows`;
  }
  if (name === 'bad') return `${findings(bad)}: the ledger does not add up`;
  if (name === 'drift') {
    return `${findings(bad)}: the rows add up, but guards are not as they were made`;
  }
  if (name === 'unfinished') return 'The last check could not finish: neither a yes nor a no';
  if (name === 'never') return 'Never checked';
  if (name === 'old') return html`No check since <${Age} at=${last.at} />`;
  const known = (full ?? last).known;
  const but = known > 0 ? `, but for ${format.count(known)} acknowledged` : '';
  if (name === 'partial') {
    return `Verified ${counted(last.rows, 'row')}${but}; no full check is on record yet`;
  }
  return `Verified: ${counted(full.rows, 'row')}${but}`;
}

function Facts({ judged: { full, last, good, bad, name }, integrity, heads, findings, lockdown }) {
  const since = rowsSince(full, heads);
  const { checkpoint, anchors } = integrity;
  return html`<dl class="facts">
    <dt>Last full check</dt><dd>${full ? html`<${OfRun} run=${full} />` : 'none on record'}</dd>
    ${last && last.id !== full?.id && html`
      <dt>Last check of all</dt><dd><${OfRun} run=${last} /></dd>`}
    ${since !== null && html`<dt>Since the full check</dt>
      <dd id="rows-since">${since === 0 ? 'no row was appended'
        : `${counted(since, 'row was', 'rows were')} appended${saySigned(checkpoint, since)}`}</dd>`}
    ${(bad || name === 'locked') && html`<dt>Last full check before without a finding</dt>
      <dd>${good ? html`<${OfRun} run=${good} /> What is wrong came after it began.`
        : 'none among the checks that are loaded'}</dd>`}
    <dt>Findings</dt><dd>${sayFindings(findings, full)}</dd>
    <dt>Last checkpoint</dt><dd>${checkpoint
      ? html`<${Age} at=${checkpoint.signed_at} />, ${
        counted(checkpoint.tree_size, 'leaf', 'leaves')}${
        checkpoint.leaves_behind > 0 ? `, ${format.count(checkpoint.leaves_behind)} behind` : ''}`
      : 'none: nothing is signed of this log'}</dd>
    ${checkpoint && html`<dt>Held outside by</dt><dd>${sayAnchors(anchors, checkpoint)}</dd>`}
    ${lockdown && !lockdown.locked && html`<dt>Lockdown</dt><dd>${lockdown.steps.length === 0
      ? 'there never was one' : html`the last one was${' '}
        <a href="#integrity" onClick=${goTo('lockdown')}>lifted</a>${' '}
        <${Age} at=${lockdown.steps[lockdown.steps.length - 1].at} />`}</dd>`}
  </dl>`;
}

/** What a checkpoint covers was read back and hashed again before it was signed. */
function saySigned(checkpoint, since) {
  if (!checkpoint || checkpoint.leaves_behind >= since) return '';
  const behind = checkpoint.leaves_behind;
  const which = behind === 0 ? 'each' : `all but ${format.count(behind)}`;
  return `; ${which} read back and signed in a checkpoint`;
}

function sayFindings(findings, full) {
  if (findings.length === 0) return full ? 'none' : 'none yet';
  const known = findings.filter(({ state }) => state === 'acknowledged').length;
  const link = html`<a href="#integrity" onClick=${goTo('findings')}>${
    format.count(findings.length)}</a>`;
  return html`${link}${known > 0 ? `, ${format.count(known)} of them acknowledged` : ''}`;
}

function sayAnchors(anchors, checkpoint) {
  if (anchors.length === 0) return 'nobody: no anchor is configured';
  const have = anchors.filter(({ tree_size: size }) => size >= checkpoint.tree_size).length;
  return `${have} of ${counted(anchors.length, 'anchor')}`;
}

/** When a run was, which kind, what came of it. */
function OfRun({ run }) {
  const { word } = VERDICTS[run.verdict];
  return html`<span><a href=${linkTo('integrity', [], { run: run.id })}><${Time} at=${run.at}
    digits=${0} /></a> ${format.zoneName()} (<${Age} at=${run.at} />), ${nameOfCheck(run.kind)}, ${
    counted(run.rows, 'row')} in ${format.duration(run.ms)}: ${word}.</span>`;
}

const EVIDENCE = html`<span>Keep the evidence before anything is changed:${' '}
  <code>audit-ledger verify --json</code>, a <code>pg_dump</code>, and a copy of the data folder. Do
  not VACUUM. RECOVERY.md has the order.</span>`;

function stepsOf({ name, bad, last }, lockdown) {
  const run = can('verify') ? 'Run a full check.' : 'Have a full check run (scope verify).';
  if (name === 'locked') {
    const isPending = lockdown?.steps.some(({ action }) => action === 'LIFT_REQUESTED');
    return [EVIDENCE,
      html`Understand the <a href="#integrity" onClick=${goTo('findings')}>findings</a>: each names
        its row. Nothing is lost meanwhile: deliveries wait in ${' '}<a href=${linkTo('ledger',
          ['quarantined_deliveries'], { reason: 'lockdown' })}>quarantine</a>.`,
      html`When it is understood, two admins${' '}
        <a href="#integrity" onClick=${goTo('lockdown')}>lift the lockdown</a>${
        isPending ? '; a request was made' : ''}.`];
  }
  if (name === 'bad') return [EVIDENCE, `${run} It locks the ledger down if this still stands.`];
  if (name === 'drift') {
    return ['Ask who changed a guard, and since when: the findings name them. Nothing is locked.',
      html`<span>Put them back with <code>audit-ledger migrate</code> as a superuser, then check
        again.</span>`];
  }
  if (name === 'unfinished') {
    const broken = last.lines.filter(({ finished }) => !finished).map(({ chain }) => chain);
    return [`Not read whole: ${broken.join(', ')}. Look at the service’s log, and the database.`,
      run];
  }
  if (name === 'never') return [run];
  if (name === 'old') {
    return ['The service checks by itself, every hour unless LEDGER_VERIFY_INTERVAL_S says '
      + 'otherwise. Look at its log.', run];
  }
  return name === 'partial' && !bad ? [run] : [];
}
