// Integrity Check: what was checked and when, a check that is run from here, and what one finds.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { fill } from '../lib/fill.mjs';
import {
  AWAY,
  api, axe, eventually, harness, open, service, shot, test,
} from '../lib/spec.mjs';

const CHAINS = ['signals', 'ai_debates', 'order_execution', 'order_events', 'signal_audit_ledger',
  'security_events', 'quarantined_deliveries'];
const count = (number) => number.toLocaleString('en-US');
const today = () => new Date().toISOString().slice(0, 10);

const view = (options = {}) => open({ key: 'admin', path: '/#integrity', ...options });
const panel = (page, name) => page.getByRole('region', { name, exact: true });
const title = (page) => page.locator('#glance-title');

/** The cells of a row of the table of chains. */
async function cells(page, chain) {
  const row = page.getByRole('row').filter({ has: page.getByText(chain, { exact: true }) });
  return panel(page, 'Chains').locator(row).locator('td').allInnerTexts();
}

/** Keeps all that the progress of a check says; a check of a small ledger is over in no time. */
function watchProgress(page) {
  return page.evaluate(() => {
    globalThis.progress = [];
    const look = () => {
      const bar = document.querySelector('progress');
      if (bar) globalThis.progress.push({ value: bar.value, max: bar.max, says: bar.ariaLabel });
    };
    new MutationObserver(look).observe(document.body, {
      subtree: true, childList: true, attributes: true, characterData: true,
    });
  });
}

async function runCheck(page, kind) {
  await page.getByRole('radio', { name: kind }).check();
  await page.getByRole('button', { name: `Run ${kind.toLowerCase()} check` }).click();
  const result = page.getByText(`The ${kind.toLowerCase()} check ended`, { exact: false });
  await result.waitFor();
  await page.getByRole('button', { name: `Run ${kind.toLowerCase()} check` }).waitFor();
  return page.locator('.notice', { has: result }).innerText();
}

test('a ledger that was never checked says so, and its numbers are the API’s', async () => {
  await fill(service, { rows: 80 });
  const { page } = await view();
  await title(page).getByText('Never checked').waitFor();
  await panel(page, 'Past checks').getByText('No check is on record').waitFor();
  for (const chain of CHAINS) {
    const { body } = await api(`/v1/${chain}?limit=1`);
    const [head] = body.items;
    const shown = () => cells(page, chain);
    await eventually(async () => (await shown())[1] === count(head.id));
    const [, , , hash, verdict, , , , since] = await shown();
    assert.ok(hash.startsWith(head.row_hash.slice(0, 8)), `${chain}: ${hash}`);
    assert.match(verdict, /not checked/);
    assert.equal(since, `+${count(head.id)}`);
    const link = panel(page, 'Chains').getByRole('link', { name: count(head.id), exact: true });
    const targets = await link.evaluateAll((all) => all.map((one) => one.getAttribute('href')));
    assert.ok(targets.includes(`#ledger/${chain}?row=${head.id}`), chain);
  }
  assert.deepEqual(await axe(page), []);
});

test('checks of each kind are run, with progress and a result that is on record', async () => {
  const { page } = await view({ viewport: { width: 1440, height: 900 } });
  await title(page).getByText('Never checked').waitFor();
  for (const kind of ['Full', 'Incremental', 'Rolling']) {
    await watchProgress(page);
    const said = await runCheck(page, kind);
    const { body } = await api('/v1/integrity/checks?limit=9');
    const lines = body.items.filter(({ run_id: id }) => id === body.items[0].run_id);
    assert.equal(lines[0].kind, kind.toLowerCase());
    const rows = lines.filter(({ chain }) => CHAINS.includes(chain))
      .reduce((total, line) => total + line.actual_count, 0);
    assert.match(said, /ended: all well/);
    assert.ok(said.includes(`${count(rows)} row`), `${kind}: ${said}`);
    const progress = await page.evaluate(() => globalThis.progress);
    assert.ok(progress.length > 0, kind);
    assert.match(progress[0].says, new RegExp(kind, 'i'));
    if (kind === 'Full') assert.ok(progress.some(({ value, max }) => value === max && max >= rows));
    const past = panel(page, 'Past checks').locator('tbody tr').first();
    await past.getByText(kind.toLowerCase(), { exact: true }).waitFor();
  }
  await title(page).getByText('Verified').waitFor();
  await shot(page, 'integrity');
});

test('what the last full check read is shown as it is on record', async () => {
  const { page } = await view();
  const { body } = await api('/v1/integrity');
  const ofRows = body.last_check.filter(({ chain }) => CHAINS.includes(chain));
  const rows = ofRows.reduce((total, line) => total + line.actual_count, 0);
  await title(page).getByText(`Verified: ${count(rows)} rows`).waitFor();
  for (const line of body.last_check) {
    const shown = await cells(page, line.chain);
    assert.match(shown[4], /well/);
    assert.ok(shown[6].startsWith(count(line.actual_count)), `${line.chain}: ${shown}`);
    if (line.chain === 'guards') continue;
    assert.equal(shown[5], `${count(line.range_start)} – ${count(line.range_end)}`);
  }
  await fill(service, { rows: 8, seed: 2 });
  const sums = await Promise.all(CHAINS.map(async (chain) => (
    (await api(`/v1/${chain}?limit=1`)).body.items[0].id)));
  const since = sums.reduce((total, id) => total + id, 0) - rows;
  await page.reload();
  await page.locator('#rows-since').getByText(`${count(since)} rows were appended`).waitFor();
});

test('a check’s record opens, and its link opens it again', async () => {
  const { page } = await view();
  const list = panel(page, 'Past checks');
  await list.locator('tbody a').last().focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByRole('dialog', { name: 'A check' });
  const { body } = await api('/v1/integrity/checks?limit=100');
  const oldest = body.items.at(-1).run_id;
  await dialog.getByText(oldest).waitFor();
  assert.equal(await dialog.locator('tbody tr').count(), 9);
  assert.deepEqual(await axe(page), []);
  const other = await view({ path: new URL(page.url()).hash });
  await other.page.goto(page.url());
  await other.page.getByRole('dialog').getByText(oldest).waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert.ok(!page.url().includes('run='));
  await page.goto('/#integrity?run=01a00000-0000-7000-8000-000000000000');
  await page.getByRole('dialog').getByText('There is no such check').waitFor();
});

test('the calendar shows today as checked, and is gone through by keyboard', async () => {
  const { page } = await view();
  const cell = (day) => page.locator(`[data-day="${day}"]`);
  const now = cell(today());
  await now.getByText('✓').waitFor();
  const stats = await Promise.all(CHAINS.map((chain) => (
    api(`/v1/${chain}/stats?group_by=day`).then(({ body }) => body.groups.at(-1).count))));
  const rows = stats.reduce((total, one) => total + one, 0);
  await eventually(async () => (await now.getAttribute('aria-label'))
    .includes(`checked, all well. ${count(rows)} rows recorded, 3 checks`));
  await page.locator('#last-read').getByText('last read by a check on').waitFor();
  assert.equal(await page.locator('.day-shown').getByRole('region', { name: 'Checks of this day' })
    .locator('tbody tr').count(), 3);

  const focused = () => page.evaluate(() => document.activeElement.dataset.day);
  const back = (days) => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);
  await now.focus();
  for (const [key, days] of [['ArrowLeft', 7], ['ArrowUp', 8], ['ArrowDown', 7], ['PageUp', 35]]) {
    await page.keyboard.press(key);
    assert.equal(await focused(), back(days), key);
  }
  assert.equal(await page.locator('.calendar [tabindex="0"]').count(), 1);
  await page.keyboard.press('Enter');
  await page.getByRole('heading', { name: '(UTC)' }).waitFor();
  assert.ok(page.url().includes(`day=${back(35)}`));
  await page.locator('.day-shown').getByText('nothing recorded, no check ran').waitFor();
  await page.keyboard.press('Home');
  assert.ok((await focused()) < back(26 * 7 - 8));
  await page.keyboard.press('End');
  assert.equal(await focused(), today());
  await page.reload();
  await page.locator('.day-shown').getByText('nothing recorded, no check ran').waitFor();

  await page.getByText('The calendar as a table').click();
  const table = page.getByRole('region', { name: 'The calendar as a table' });
  const row = table.getByRole('row').filter({ hasText: today() });
  await row.getByText('checked, all well').waitFor();
  await table.getByRole('button', { name: today() }).click();
  assert.equal(await now.getAttribute('aria-selected'), 'true');
});

test('what the calendar concludes from checks', async () => {
  const { page } = await view();
  await title(page).waitFor();
  // The same module, as the page has it.
  const found = await page.evaluate(async () => {
    const runs = await import('/ui/tabs/integrity/runs.js');
    const line = (start, end, id) => ({ start, end, id, finished: true });
    const read = (lines, first, last) => {
      const { by, missing } = runs.lastRead(lines, first, last);
      return [by?.id ?? null, missing];
    };
    const day = (verdicts, rows = 1, isKnown = true) => (
      runs.stateOfDay(verdicts.map((verdict) => ({ verdict })), rows, isKnown));
    return {
      full: read([line(1, 90, 'b'), line(1, 50, 'a')], 10, 20),
      slices: read([line(41, 60, 'c'), line(21, 40, 'b'), line(1, 20, 'a')], 15, 45),
      inside: read([line(20, 30, 'b')], 10, 40),
      unfinished: read([{ ...line(1, 90, 'b'), finished: false }, line(1, 50, 'a')], 1, 50),
      none: read([], 1, 3),
      states: [day([]), day([], 0), day([], 1, false), day(['verified']),
        day(['known', 'verified']), day(['verified', 'tampered']), day(['guard_drift']),
        day(['unfinished', 'verified']),
        day(['verified', 'unfinished']), day(['nothing']), day(['tampered'], 1, false)],
    };
  });
  assert.deepEqual(found, {
    full: ['b', []],
    slices: ['a', []],
    inside: ['b', [[10, 19], [31, 40]]],
    unfinished: ['a', []],
    none: [null, [[1, 3]]],
    states: ['unchecked', 'empty', 'unknown', 'ok', 'known', 'bad', 'bad', 'unfinished', 'ok',
      'unchecked', 'bad'],
  });
});

test('the checkpoint and the anchors are those of the API, with their age', async () => {
  const state = async () => (await api('/v1/integrity')).body;
  await eventually(async () => {
    const { checkpoint, anchors } = await state();
    return checkpoint.leaves_behind === 0 && anchors[0].tree_size === checkpoint.tree_size;
  });
  const { page } = await view();
  const { checkpoint, anchors } = await state();
  const part = panel(page, 'Checkpoint');
  for (const text of [checkpoint.origin, checkpoint.root_hash, 'covers every row']) {
    await part.getByText(text).first().waitFor();
  }
  await page.locator('#tree-size').getByText(`${count(checkpoint.tree_size)} leaves`).waitFor();
  assert.match(await part.innerText(), /Signed\s+[\d :.-]+ UTC, \d+ \w+( \d+ \w+)? ago/);
  const row = panel(page, 'Anchors').locator('tbody tr');
  assert.equal(await row.count(), 1);
  const shown = await row.locator('td').allInnerTexts();
  assert.equal(await row.locator('td span').first().getAttribute('title'), anchors[0].anchor);
  assert.match(shown[1], /has it/);
  assert.deepEqual(shown.slice(2, 4), [count(anchors[0].tree_size), '0']);
  assert.match(shown[4], /^\d+ \w+( \d+ \w+)? ago$/);

  const waiting = page.waitForEvent('download');
  await part.getByRole('button', { name: 'Download the signed note' }).click();
  const download = await waiting;
  assert.equal(download.suggestedFilename(), `checkpoint-${checkpoint.tree_size}.txt`);
  const note = readFileSync(await download.path(), 'utf8');
  const { origin, tree_size: size, root_hash: root } = checkpoint;
  assert.ok(note.startsWith(`${origin}\n${size}\n${root}\n`));
  assert.match(note, /\n\n— /);
});

test('a check that cannot begin says why, and what to do', async () => {
  const opened = await view();
  const { page } = opened;
  await title(page).waitFor();
  const problem = { status: 503, code: 'SYS-001', detail: 'another check is running' };
  await page.route('**/v1/integrity/checks?kind=*', (asked) => asked.fulfill({
    status: 503, headers: { 'Retry-After': '2' }, contentType: 'application/problem+json',
    body: JSON.stringify(problem),
  }));
  opened.expect(/status of 503/);
  await page.getByRole('button', { name: 'Run full check' }).click();
  await page.getByText('Not checked: another check is running').waitFor();
  const again = page.getByRole('button', { name: /^Try again/ });
  assert.ok(await again.isDisabled());
  await page.unroute('**/v1/integrity/checks?kind=*');
  await page.getByRole('button', { name: 'Try again', exact: true }).click();
  await page.getByText('The full check ended: all well').waitFor();
});

test('a service that is away is told, and found again', async () => {
  const opened = await view();
  const { page } = opened;
  await title(page).waitFor();
  opened.expect(AWAY);
  await harness('stop');
  await page.getByRole('button', { name: 'Run full check' }).click();
  const away = page.getByText('the service cannot be reached');
  await eventually(async () => (await away.count()) > 1);
  await harness('start');
  await page.getByRole('button', { name: 'Try again' }).first().click();
  // What a look every few seconds brings is gone by itself; the check waits for who wants it.
  await eventually(async () => (await away.count()) === 1);
  await page.getByRole('button', { name: 'Run full check' }).click();
  await page.getByText('The full check ended: all well').waitFor();
  assert.equal(await away.count(), 0);
});

test('who only reads is offered no check', async () => {
  const { page } = await view({ key: 'reader' });
  await title(page).getByText('Verified').waitFor();
  assert.equal(await page.getByRole('button', { name: /Run .* check/ }).count(), 0);
  assert.match(await panel(page, 'Run a check').innerText(), /has not the scope verify/);
});

for (const theme of ['light', 'dark']) {
  test(`everybody can use it, ${theme}, on a narrow window too`, async () => {
    const { page } = await view({ theme });
    await page.locator(`[data-day="${today()}"]`).getByText('✓').waitFor();
    assert.deepEqual(await axe(page), []);
    await page.setViewportSize({ width: 480, height: 900 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
  });
}

test('a row that was changed is found, named, and locks the ledger down', async () => {
  const opened = await view();
  const { page } = opened;
  await title(page).getByText('Verified').waitFor();
  const sql = 'UPDATE public.signals SET price = price + 1 WHERE id = 3';
  await harness('tamper_and_rearm', { table: 'signals', sql });
  const said = await runCheck(page, 'Full');
  assert.match(said, /ended: tampered/);
  assert.match(said, /locked down/);
  await page.locator('#lockdown-alarm').waitFor();
  await title(page).getByText('Locked down since').waitFor();
  const { body } = await api('/v1/lockdown');
  assert.equal(body.findings.length, 1);
  const [finding] = body.findings;
  const found = page.getByRole('region', { name: 'Findings: content' });
  await found.getByText('A row does not hash to its row_hash', { exact: false }).waitFor();
  await found.getByText(finding.detail).waitFor();
  await found.getByText('locks the ledger').waitFor();
  assert.ok((await found.innerText()).includes(finding.finding_id.slice(0, 8)));
  const link = found.getByRole('link', { name: 'signals row 3' });
  assert.equal(await link.getAttribute('href'), '#ledger/signals?row=3');
  assert.match((await cells(page, 'signals'))[4], /findings/);
  const now = page.locator(`[data-day="${today()}"]`);
  await now.getByText('✗').waitFor();
  assert.match(await now.getAttribute('aria-label'), /checked, findings/);
  assert.match(await page.locator('.glance').innerText(), /What is wrong came after it began/);
  await panel(page, 'Past checks').locator('tbody a').first().click();
  await page.getByRole('dialog').getByText(finding.detail).waitFor();
  await page.keyboard.press('Escape');
});

for (const theme of ['light', 'dark']) {
  test(`everybody can use it in a lockdown, ${theme}`, async () => {
    const { page } = await view({ theme });
    await page.getByLabel('Reason').waitFor();
    await page.locator(`[data-day="${today()}"]`).getByText('✗').waitFor();
    assert.deepEqual(await axe(page), []);
    await page.setViewportSize({ width: 480, height: 900 });
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)) <= 0);
  });
}
