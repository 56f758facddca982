// Every tab as people see it: in both themes, wide and narrow. `LEDGER_SHOTS` keeps the pictures that
// the README shows.
import assert from 'node:assert/strict';

import { fill } from '../lib/fill.mjs';
import { api, axe, eventually, open, service, shot, test } from '../lib/spec.mjs';

const KINDS = ['full', 'incremental'];

/** Each tab, where it is, and what is there once it is drawn. */
function tabs({ story }) {
  return [
    ['feed', '#feed', (page) => page.locator('.uplot').first()],
    ['ledger', '#ledger/signals?row=3', (page) => page.getByText('raw payload').first()],
    ['story', `#ledger/trades/${story.correlation_id ?? story}`, (page) => page.locator('main h2').first()],
    ['integrity', '#integrity', (page) => page.getByText('Verified').first()],
    ['export', '#export', (page) => page.getByRole('button', { name: /Download/ })],
  ];
}

let filled = null;

async function lively() {
  filled ??= (async () => {
    const ids = await fill(service, { rows: 120 });
    for (const kind of KINDS) {
      const { status } = await api(`/v1/integrity/checks?kind=${kind}`, { method: 'POST' });
      assert.equal(status, 201);
    }
    return ids;
  })();
  return filled;
}

async function visit(view, hash, drawn) {
  const { page } = view;
  await page.goto(`/${hash}`);
  await drawn(page).waitFor();
  const seen = page.locator('#kill-switch-alarm').getByRole('button', { name: 'Seen' });
  await seen.click();
  // Nothing looks as if somebody pointed at it.
  await page.mouse.move(0, 0);
  // What was still loading when the first of it was there.
  await eventually(async () => (await page.locator('.busy').count()) === 0);
}

/** The row that is open, by its key: the README shows what comes of it. */
async function verify(page) {
  await page.keyboard.press('v');
  await page.getByText('every step holds').waitFor();
}

for (const theme of ['light', 'dark']) {
  test(`every tab is drawn and accessible, ${theme}`, async () => {
    const all = tabs(await lively());
    for (const [name, hash, drawn] of all) {
      const view = await open({ key: 'admin', theme, viewport: { width: 1440, height: 900 } });
      await visit(view, hash, drawn);
      if (name === 'ledger') await verify(view.page);
      await shot(view.page, theme === 'light' ? name : `${name} ${theme}`);
      assert.deepEqual(await axe(view.page), [], name);
      await view.close();
    }
  });
}

test('every tab fits a narrow window', async () => {
  const all = tabs(await lively());
  for (const [name, hash, drawn] of all) {
    const view = await open({ key: 'admin', viewport: { width: 400, height: 800 } });
    await visit(view, hash, drawn);
    await shot(view.page, `${name} narrow`);
    const wider = await view.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wider <= 0, `${name} is ${wider} px wider than the window`);
    await view.close();
  }
});
