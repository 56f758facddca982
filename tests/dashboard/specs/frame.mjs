// The frame around the tabs: who looks, what they may do, what nobody may miss.
import assert from 'node:assert/strict';

import { fill } from '../lib/fill.mjs';
import { AWAY, api, axe, eventually, harness, open, service, test } from '../lib/spec.mjs';

const TABS = ['Signal Feed', 'Audit Ledger', 'Integrity Check', 'Export & Replay'];
const HASHES = ['feed', 'ledger', 'integrity', 'export'];

const current = (page) => page.getByRole('navigation', { name: 'Tabs' }).locator('[aria-current]');
const holder = (page, name) => page.locator('.who', { hasText: name });

const kept = (page) => page.evaluate(() => ({
  tab: Object.values(sessionStorage).join(' '),
  browser: Object.values(localStorage).join(' '),
  cookies: document.cookie,
  url: location.href,
}));

test('a key signs in, and is kept for the tab alone', async () => {
  const view = await open();
  const { page } = view;
  const button = page.getByRole('button', { name: 'Sign in' });
  assert.ok(await button.isDisabled());
  assert.deepEqual(await axe(page), []);

  view.expect(/status of 401/);
  await page.getByLabel('API key').fill('lk_nobody');
  await page.keyboard.press('Enter');
  await page.getByText('SEC-005').waitFor();
  assert.deepEqual(await axe(page), []);

  await page.getByLabel('API key').fill(` ${service.keys.reader} `);
  await page.keyboard.press('Enter');
  await holder(page, 'reader').waitFor();
  assert.equal(await current(page).innerText(), TABS[0]);

  const { tab, ...elsewhere } = await kept(page);
  assert.ok(tab.includes(service.keys.reader));
  assert.ok(!JSON.stringify(elsewhere).includes(service.keys.reader));
  await page.reload();
  await holder(page, 'reader').waitFor();

  const other = await view.context.newPage();
  await other.goto('/');
  await other.getByRole('button', { name: 'Sign in' }).waitFor();

  await page.getByRole('button', { name: 'Sign out' }).click();
  await button.waitFor();
  assert.equal((await kept(page)).tab, '');
  await page.reload();
  await button.waitFor();
});

test('a key that is revoked meanwhile is signed out, and told why', async () => {
  const view = await open({ key: 'exporter', path: '/#integrity' });
  const { page } = view;
  await holder(page, 'exporter').waitFor();
  const id = service.keys.exporter.split('_')[1];
  await harness('psql', { sql: `SELECT public.ledger_revoke_key('${id}')` });
  view.expect(/status of 401/);
  // Whatever is asked next is refused; a service may believe a key for a moment longer.
  await eventually(async () => {
    for (const key of '1234') await page.keyboard.press(key);
    return page.getByText('not in force any more').isVisible();
  });
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert.ok(!(await kept(page)).tab.includes(service.keys.exporter));
});

test('what the scopes do not allow is not offered', async () => {
  const { page } = await open({ key: 'ingest' });
  for (const tab of ['1', '2', '3']) {
    await page.keyboard.press(tab);
    await page.getByText('it has not the scope read').waitFor();
  }
  assert.deepEqual(await axe(page), []);
});

test('tabs, help, zone and theme go by keyboard', async () => {
  const { page } = await open({ key: 'reader', timezoneId: 'Africa/Johannesburg' });
  await holder(page, 'reader').waitFor();
  for (const [at, title] of TABS.entries()) {
    await page.keyboard.press(String(at + 1));
    await eventually(async () => (await current(page).innerText()) === title);
    assert.ok(page.url().includes(`#${HASHES[at]}`));
    await page.waitForFunction((text) => document.title.startsWith(text), title);
  }
  await page.goBack();
  assert.equal(await current(page).innerText(), TABS[2]);

  await page.keyboard.press('?');
  const help = page.getByRole('dialog', { name: 'Keys' });
  await help.getByText('Go to Audit Ledger').waitFor();
  assert.deepEqual(await axe(page), []);
  await help.getByLabel('Single keys do something').uncheck();
  await page.keyboard.press('Escape');
  await help.waitFor({ state: 'detached' });
  await page.keyboard.press('1');
  assert.equal(await current(page).innerText(), TABS[2], 'single keys are off');
  await page.getByRole('button', { name: 'Show the keys' }).click();
  await help.getByLabel('Single keys do something').check();
  await page.keyboard.press('Escape');
  await help.waitFor({ state: 'detached' });

  await page.keyboard.press('u');
  await page.getByRole('button', { name: 'Times are in local time' }).getByText('UTC+02:00').waitFor();
  const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await back();
  await page.keyboard.press('t');
  await page.getByRole('button', { name: 'The theme is dark' }).waitFor();
  assert.notEqual(await back(), light);
  await page.reload();
  await page.getByRole('button', { name: 'The theme is dark' }).waitFor();
  await page.getByRole('button', { name: 'Times are in local time' }).waitFor();
});

test('a kill switch is seen on every tab until it was seen', async () => {
  const { page } = await open({ key: 'admin', path: '/#export' });
  await holder(page, 'admin').waitFor();
  assert.equal(await page.locator('#kill-switch-alarm').count(), 0);
  await fill(service, { rows: 40 });
  const alarm = page.locator('#kill-switch-alarm');
  await alarm.getByText('KILL SWITCH').waitFor();
  for (const tab of '1234') {
    await page.keyboard.press(tab);
    assert.ok(await alarm.isVisible());
  }
  assert.deepEqual(await axe(page), []);
  const { body } = await api('/v1/kill_switch_events?limit=1');
  const link = alarm.getByRole('link', { name: 'Show the event' });
  assert.match(await link.getAttribute('href'), new RegExp(`row=${body.items[0].id}$`));
  await alarm.getByRole('button', { name: 'Seen' }).click();
  await alarm.waitFor({ state: 'detached' });
});

test('a service that is away is told, and comes back by itself', async () => {
  const view = await open({ key: 'reader' });
  const { page } = view;
  await holder(page, 'reader').waitFor();
  view.expect(AWAY);
  await harness('stop');
  await page.reload().catch(() => {});
  await harness('start');
  await page.goto('/#ledger');
  await holder(page, 'reader').waitFor();
});

test('an address that nobody made leads to the first tab', async () => {
  for (const path of ['/#nowhere/at?all=1', '/#%E0%A4%A', '/#/']) {
    const view = await open({ key: 'reader', path });
    await holder(view.page, 'reader').waitFor();
    assert.equal(await current(view.page).innerText(), TABS[0]);
    await view.close();
  }
});

test('on a narrow window nothing is cut off', async () => {
  const { page } = await open({ key: 'reader', viewport: { width: 380, height: 800 } });
  await holder(page, 'reader').waitFor();
  for (const tab of '1234') {
    await page.keyboard.press(tab);
    const wider = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    await eventually(async () => (await wider()) <= 0);
  }
});
