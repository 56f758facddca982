// A lockdown as those see it who are looking, and how two admins lift it.
import assert from 'node:assert/strict';

import { Sender, fill } from '../lib/fill.mjs';
import {
  api, axe, eventually, harness, open, service, shot, test,
} from '../lib/spec.mjs';

const HOSTILE = `incident 7: <img src=x onerror="globalThis.pwned=1"> & 'a "disk"'`;
const KILL = { event_type: 'KILL_SWITCH', zar_equity: '100.00', positions_closed: [] };
const sender = new Sender(service);

const banner = (page) => page.locator('#lockdown-alarm');
const write = () => api('/v1/order_events', { method: 'POST', body: KILL });
const pending = (page) => page.getByRole('region', { name: /Request \d+ to lift/ });

async function tamperAndCheck(id) {
  const sql = `UPDATE public.signals SET price = price + 1 WHERE id = ${id}`;
  await harness('tamper_and_rearm', { table: 'signals', sql });
  const { body } = await api('/v1/integrity/checks', { method: 'POST' });
  assert.equal(body.verdict, 'tampered');
}

async function request(page, reason) {
  const submit = page.getByRole('button', { name: /Request the lift/ });
  await page.getByLabel('Reason').waitFor();
  assert.ok(await submit.isDisabled(), 'a reason is required');
  await page.getByLabel('Reason').fill('   ');
  assert.ok(await submit.isDisabled(), 'blanks are none');
  await page.getByLabel('Reason').fill(reason);
  await submit.click();
  await pending(page).waitFor();
}

test('a lockdown is seen on every tab within seconds, and writes are refused', async () => {
  await fill(service, { rows: 16 });
  const pages = await Promise.all(['feed', 'ledger', 'integrity', 'export']
    .map(async (tab) => (await open({ key: 'reader', path: `/#${tab}` })).page));
  await Promise.all(pages.map((page) => page.locator('.who').waitFor()));
  assert.equal((await write()).status, 201);
  await tamperAndCheck(2);
  await Promise.all(pages.map((page) => banner(page).waitFor({ timeout: 10_000 })));
  for (const page of pages) {
    assert.match(await banner(page).innerText(), /LOCKDOWN \(AUD-009\) since .* UTC/);
    await banner(page).getByRole('link', { name: 'See why, and lift it' }).click();
    await page.locator('#glance-title').getByText('Locked down since').waitFor();
  }
  const { status, body } = await write();
  assert.deepEqual([status, body.code], [423, 'AUD-009']);
  const kept = { signal_id: 'kept', symbol: 'BTCUSD', side: 'BUY', price: '1', quantity: '1' };
  await sender.deliver(kept, [423]);
});

test('who only reads sees why, and is not offered to lift it', async () => {
  const { page } = await open({ key: 'reader', path: '/#integrity' });
  const { body } = await api('/v1/lockdown');
  const part = page.getByRole('region', { name: 'Lockdown', exact: true });
  await part.getByText(body.reason).waitFor();
  await part.getByText('It has not the scope').waitFor();
  assert.equal(await page.getByRole('button', { name: /lift|Confirm/ }).count(), 0);
  assert.equal(await page.getByLabel('Reason').count(), 0);
});

test('an admin requests, the same one cannot confirm, another one does', async () => {
  const viewport = { width: 1440, height: 900 };
  const mine = await open({ key: 'admin', path: '/#integrity', viewport });
  const { page } = mine;
  const acknowledged = page.getByRole('checkbox', { name: /signals row 2/ });
  await acknowledged.waitFor();
  await page.getByText('1 of 1 finding is not acknowledged').waitFor();
  await page.getByText('Acknowledged, it stays listed by every check for ever').waitFor();
  await acknowledged.check();
  await page.getByText('1 of 1 finding is not acknowledged').waitFor({ state: 'detached' });
  await request(page, HOSTILE);
  await pending(page).getByText(HOSTILE, { exact: true }).waitFor();
  assert.match(await pending(page).getByRole('timer').innerText(), /^1[45]:\d\d min$/);
  assert.match(await page.evaluate(() => document.activeElement.textContent), /step 2 of 2/);
  assert.equal(await page.getByRole('button', { name: /^Confirm as/ }).count(), 0, 'it is mine');
  for (const theme of ['dark', 'light']) {
    await page.emulateMedia({ colorScheme: theme });
    assert.deepEqual(await axe(page), [], theme);
  }
  await shot(page, 'lockdown');

  mine.expect(/status of 403/, /status of 401/);
  const key = page.getByLabel('Another admin’s key');
  const confirm = page.getByRole('button', { name: 'Confirm with this key' });
  for (const [typed, said] of [
    [service.keys.admin, 'The second key has to be another admin’s'],
    [service.keys.reader, 'The key needs the scope admin'],
    ['lk_0000000000000000_nonsense', 'it is not one of this ledger'],
  ]) {
    await key.fill(typed);
    await confirm.click();
    await page.getByRole('alert').getByText(said).waitFor();
    assert.equal(await key.inputValue(), '', 'a key is used once');
  }
  assert.ok(await page.locator('.who', { hasText: 'admin' }).isVisible(), 'still signed in');
  assert.equal((await write()).status, 423);

  const other = await open({ key: 'admin2', path: '/#integrity' });
  const request2 = pending(other.page);
  await request2.getByText(HOSTILE, { exact: true }).waitFor();
  await request2.getByText('signals row 2').waitFor();
  const by = request2.locator('dd').filter({ hasText: ' by ' });
  await by.getByText('admin', { exact: true }).waitFor();
  const lift = 'Confirm as admin2, and lift the lockdown';
  await other.page.getByRole('button', { name: lift }).click();
  await other.page.getByText('The last lockdown was lifted').waitFor();
  for (const one of [other.page, page]) await banner(one).waitFor({ state: 'detached' });
  assert.equal(await other.page.evaluate(() => document.activeElement.id), 'lockdown');
  assert.equal((await write()).status, 201);
  await page.getByText('The last lockdown was lifted').waitFor();
  const steps = page.getByRole('list', { name: 'Steps of the lockdown' });
  await eventually(async () => (await steps.getByRole('listitem').count()) === 3);
  const link = page.getByRole('link', { name: 'quarantine', exact: true });
  assert.equal(await link.getAttribute('href'), '#ledger/quarantined_deliveries?reason=lockdown');
});

test('what is acknowledged stays listed, and locks no more', async () => {
  const { page } = await open({ key: 'admin', path: '/#integrity' });
  await page.getByRole('button', { name: 'Run full check' }).click();
  await page.getByText('The full check ended').waitFor();
  // Whoever changed the row left a guard that is not as it was made, which locks nothing.
  await page.locator('#glance-title').getByText('the rows add up').waitFor();
  await page.getByRole('region', { name: 'Findings: content' }).getByText('acknowledged').waitFor();
  assert.equal(await banner(page).count(), 0);
  assert.deepEqual(await axe(page), []);
});

test('the second key may be typed, for one request, and is kept nowhere', async () => {
  await tamperAndCheck(4);
  const { page } = await open({ key: 'admin', path: '/#integrity' });
  // Not acknowledging says what follows.
  await page.getByText('1 of 1 finding is not acknowledged').waitFor();
  await request(page, 'looked at');
  await pending(page).getByText('1 finding that locks is not among them').waitFor();
  // Another request is another one to confirm.
  await page.getByRole('button', { name: 'Make another request' }).click();
  await page.getByRole('checkbox', { name: /signals row 4/ }).check();
  await page.getByLabel('Reason').fill('known now');
  await page.getByRole('button', { name: 'Request the lift, acknowledging 1' }).click();
  const second = pending(page).filter({ hasText: 'known now' });
  await second.waitFor();
  await second.getByLabel('Another admin’s key').fill(service.keys.admin2);
  await page.keyboard.press('Enter');
  await page.getByText('The last lockdown was lifted').waitFor();
  await banner(page).waitFor({ state: 'detached' });
  const kept = await page.evaluate(() => JSON.stringify([{ ...sessionStorage }, { ...localStorage },
    location.href, document.documentElement.outerHTML]));
  assert.ok(!kept.includes(service.keys.admin2));
  await page.locator('.who', { hasText: 'admin' }).waitFor();
  assert.equal((await write()).status, 201);
  const { body } = await api('/v1/lockdown');
  assert.deepEqual(body.steps.map(({ action }) => action),
    ['ENTERED', 'LIFT_REQUESTED', 'LIFT_REQUESTED', 'LIFTED']);
  assert.equal(body.steps.at(-1).actor, 'admin2');
});
