// Rows played again: all of them, in their order, at the speed and from the place that was chosen.
import assert from 'node:assert/strict';

import { fill } from '../lib/fill.mjs';
import { hostile } from '../lib/hostile.mjs';
import { AWAY, api, axe, eventually, harness, open, service, shot, test } from '../lib/spec.mjs';

const ids = await fill(service, { rows: 280 });
/** Chains that have fewer rows together than are shown. */
const FEW = 'signals,order_execution,order_events';

/** The rows as the API replays them. */
async function replayed(query = {}) {
  const url = `${service.url}/v1/replay?${new URLSearchParams(query)}`;
  const key = service.keys.exporter;
  const headers = { Authorization: `Bearer ${key}`, Accept: 'application/x-ndjson' };
  const answer = await fetch(url, { headers });
  assert.equal(answer.status, 200);
  return (await answer.text()).trimEnd().split('\n').map((line) => JSON.parse(line));
}

const hashOf = (query = {}) => `/#export/replay?${new URLSearchParams(query)}`;
const leavesOf = (rows) => rows.map(({ leaf_index: leaf }) => leaf);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const stateIs = (page, state) => page.locator(`[data-state=${state}]`).waitFor();
const next = async (page) => Number(await page.locator('[data-next]').getAttribute('data-next'));
const count = async (page) => Number(await page.locator('[data-count]').getAttribute('data-count'));

/** The leaves that are shown, the newest first. */
async function shownLeaves(page) {
  const texts = await page.locator('.replayed tbody a.open').allInnerTexts();
  return texts.map((text) => Number(text.replaceAll(',', '')));
}

/** A speed at which these rows take so long. */
function speedFor(rows, ms) {
  const [first, last] = [rows[0], rows.at(-1)].map((row) => Date.parse(row.created_at));
  return String((last - first) / ms);
}

test('as fast as possible, every row comes, in the ledger’s order', async () => {
  const rows = await replayed();
  assert.ok(rows.length > 250);
  const { page } = await open({ key: 'exporter', path: hashOf({ speed: '0' }) });
  await button(page, 'Start').click();
  await stateIs(page, 'ended');
  assert.equal(await count(page), rows.length);
  assert.deepEqual(await shownLeaves(page), leavesOf(rows).reverse().slice(0, 200));
  assert.equal(await next(page), rows.at(-1).leaf_index + 1);
  const last = page.locator('.position time').first();
  assert.equal(await last.getAttribute('datetime'), rows.at(-1).created_at);
  assert.equal(await page.getByLabel('Position in the log').inputValue(), String(rows.length));
  await page.getByText('100 %').waitFor();
  // A row leads to itself.
  const { chain, id } = rows.at(-1);
  const link = page.locator('.replayed tbody a.open').first();
  assert.equal(await link.getAttribute('href'), `#ledger/${chain}?row=${id}`);
});

test('chains and filters choose what is played', async () => {
  const { page } = await open({ key: 'exporter', path: hashOf({ speed: '0' }) });
  for (const name of ['ai debates', 'signal audit ledger', 'security events',
    'quarantined deliveries', 'order events']) {
    await page.getByRole('checkbox', { name }).uncheck();
  }
  assert.match(decodeURIComponent(page.url()), /chains=signals,order_execution/);
  await page.getByLabel('Filter by').selectOption('symbol');
  await page.getByLabel('Value').fill('BTCUSD');
  await button(page, 'Add').click();
  const rows = await replayed({ chains: 'signals,order_execution', symbol: 'BTCUSD' });
  assert.ok(rows.length > 5 && rows.length < 200);
  await page.reload();
  await button(page, 'Start').click();
  await stateIs(page, 'ended');
  assert.deepEqual(await shownLeaves(page), leavesOf(rows).reverse());
  // Of a chain more, it is no filter.
  await page.getByRole('checkbox', { name: 'ai debates' }).check();
  await page.getByText('Not a filter of all these chains').waitFor();
});

test('pausing stops, and going on leaves no gap and brings nothing twice', async () => {
  const rows = await replayed({ chains: FEW });
  assert.ok(rows.length < 200, `${rows.length}`);
  const path = hashOf({ chains: FEW, speed: speedFor(rows, 6000) });
  const { page } = await open({ key: 'exporter', path });
  const asked = [];
  const isReplay = (request) => request.url().includes('/v1/replay');
  page.on('request', (request) => {
    if (!isReplay(request)) return;
    asked.push(Number(new URL(request.url()).searchParams.get('from_leaf')));
  });
  await button(page, 'Start').click();
  const stops = [];
  for (const act of ['click', 'p', 'click']) {
    const had = stops.at(-1)?.count ?? 0;
    await eventually(async () => await count(page) > had + 5);
    const closed = page.waitForEvent('requestfailed', isReplay);
    if (act === 'click') await button(page, 'Pause').click();
    else await page.keyboard.press(act);
    await closed;
    await stateIs(page, 'paused');
    stops.push({ next: await next(page), count: await count(page) });
    assert.ok(page.url().includes(`from_leaf=${stops.at(-1).next}`));
    if (act === 'click') await button(page, 'Resume').click();
    else await page.keyboard.press(act);
  }
  await stateIs(page, 'ended');
  assert.ok(stops[2].count < rows.length, JSON.stringify(stops));
  assert.deepEqual(asked, [0, ...stops.map((stop) => stop.next)]);
  assert.equal(await count(page), rows.length);
  assert.deepEqual(await shownLeaves(page), leavesOf(rows).reverse());
});

test('a speed holds the time that there was between rows', async () => {
  const rows = await replayed({ chains: FEW });
  const { page } = await open({ key: 'exporter', path: hashOf({ chains: FEW }) });
  const speed = speedFor(rows, 2000);
  await page.getByLabel('Another speed').fill(speed);
  await page.keyboard.press('Enter');
  assert.equal(new URLSearchParams(page.url().split('?')[1]).get('speed'), speed);
  const begun = performance.now();
  await button(page, 'Start').click();
  await page.getByText('Ledger’s clock').locator('xpath=..').locator('time').waitFor();
  await stateIs(page, 'ended');
  assert.ok(performance.now() - begun >= 2000, `${performance.now() - begun} ms`);
  assert.equal(await count(page), rows.length);

  await button(page, 'Rewind').click();
  assert.equal(await count(page), 0);
  // Another speed holds from the next row on.
  await page.getByLabel('Another speed').fill('0.001');
  await button(page, 'Set').click();
  await button(page, 'Start').click();
  await eventually(async () => await count(page) === 1);
  await button(page, 'As fast as possible').click();
  await stateIs(page, 'ended');
  assert.deepEqual(await shownLeaves(page), leavesOf(rows).reverse());
});

test('it goes where it is sent, and a step is one row', async () => {
  const rows = await replayed({ chains: FEW });
  const { page } = await open({ key: 'exporter', path: hashOf({ chains: FEW }) });
  const middle = rows[40];
  await page.getByLabel('Leaf index').fill(String(middle.leaf_index));
  await button(page, 'Go').click();
  assert.equal(await next(page), middle.leaf_index);
  await button(page, 'Step').click();
  await stateIs(page, 'paused');
  await eventually(async () => assert.deepEqual(await shownLeaves(page), [middle.leaf_index]));
  for (const at of [41, 42]) {
    await page.keyboard.press('s');
    await eventually(async () => assert.equal((await shownLeaves(page))[0], rows[at].leaf_index));
  }
  assert.deepEqual(await shownLeaves(page), leavesOf(rows.slice(40, 43)).reverse());
  assert.equal(await next(page), rows[42].leaf_index + 1);

  const time = rows[60].created_at.slice(0, 19);
  const first = rows.find((row) => row.created_at >= `${time}.000000Z`);
  // The input leaves seconds out that are none.
  const typed = time.replace(/:00$/, '');
  await page.getByLabel('Go to', { exact: true }).selectOption('time');
  await page.getByLabel('Appended from').fill(typed);
  await button(page, 'Go').click();
  await eventually(async () => assert.equal(await next(page), first.leaf_index));
  await page.getByLabel('Appended from').fill('2999-01-01T00:00:01');
  await button(page, 'Go').click();
  await page.getByText('There is no row from that time on.').waitFor();

  const slider = page.getByLabel('Position in the log');
  await slider.press('Home');
  await eventually(async () => assert.equal(await next(page), 0));
  await slider.press('ArrowRight');
  await eventually(async () => assert.equal(await next(page), 1));
  await slider.press('End');
  await eventually(async () => assert.equal(await next(page), (await replayed()).length));
  await button(page, 'Step').click();
  await stateIs(page, 'ended');

  // A link leads to the place.
  await page.goto('/#feed');
  await page.goto(hashOf({ chains: FEW, speed: '0', from_leaf: rows[50].leaf_index }));
  await button(page, 'Start here').click();
  await stateIs(page, 'ended');
  assert.deepEqual(await shownLeaves(page), leavesOf(rows.slice(50)).reverse());
});

test('the space bar pauses, but presses the button that has the focus', async () => {
  const { page } = await open({ key: 'exporter', path: hashOf({ speed: '0.001' }) });
  await button(page, 'Start').waitFor();
  await page.keyboard.press(' ');
  await stateIs(page, 'playing');
  await page.keyboard.press(' ');
  await stateIs(page, 'paused');
  await button(page, '10×').focus();
  await page.keyboard.press(' ');
  await eventually(() => /speed=10\b/.test(page.url()));
  await stateIs(page, 'paused');
  await button(page, 'Resume').focus();
  await page.keyboard.press(' ');
  await stateIs(page, 'playing');
});

test('what breaks off says so, and goes on where it was', async () => {
  const rows = await replayed({ chains: FEW });
  const speed = speedFor(rows, 20_000);
  const view = await open({ key: 'exporter', path: hashOf({ chains: FEW, speed }) });
  const { page } = view;
  await button(page, 'Start').click();
  await eventually(async () => await count(page) > 5);
  view.expect(AWAY);
  await harness('restart');
  await stateIs(page, 'broken');
  await page.getByText('The stream broke off.').waitFor();
  await button(page, 'As fast as possible').click();
  await button(page, 'Resume').click();
  await stateIs(page, 'ended');
  const now = await replayed({ chains: FEW });
  assert.deepEqual(await shownLeaves(page), leavesOf(now).reverse());
});

test('what is asked wrongly is refused by name', async () => {
  const view = await open({ key: 'exporter', path: hashOf({ speed: 'fast' }) });
  view.expect(/status of 400/);
  const { page } = view;
  await button(page, 'Start').click();
  await page.getByText('VAL-003: speed').waitFor();
  await page.getByText('Look at speed.').waitFor();
  await button(page, 'As fast as possible').click();
  await button(page, 'Resume').click();
  await stateIs(page, 'ended');
});

test('each row is a readable line, and what it holds is text', async () => {
  const path = hashOf({ chains: 'signals,order_events', speed: '0' });
  const { page } = await open({ key: 'exporter', path });
  await button(page, 'Start').click();
  await stateIs(page, 'ended');
  const { body: { row } } = await api(`/v1/signals/${ids.hostile.id}`);
  const line = page.locator('.replayed tbody tr').filter({ hasText: row.signal_id });
  assert.match(await line.innerText(), new RegExp(`signals\\s.*${row.side}`, 's'));
  const rejection = hostile.reason.split('\u2028')[0];
  await page.locator('.replayed tbody tr').filter({ hasText: rejection }).waitFor();
  assert.equal(await page.locator('.replayed img, .replayed script, .replayed svg').count(), 0);
});

test('a key is offered what its scopes allow', async () => {
  const { page } = await open({ key: 'reader', path: hashOf() });
  await page.getByText('Exports and replays need the scope export.').waitFor();
  assert.equal(await button(page, 'Start').count(), 0);
});

for (const theme of ['light', 'dark']) {
  test(`nothing keeps people out: ${theme}`, async () => {
    const viewport = { width: 1440, height: 900 };
    const path = hashOf({ chains: 'order_events', speed: '0' });
    const { page } = await open({ key: 'admin', theme, viewport, path });
    await page.getByLabel('Position in the log').waitFor();
    assert.deepEqual(await axe(page), []);
    await button(page, 'Start').click();
    await stateIs(page, 'ended');
    if (theme === 'light') await shot(page, 'replay');
    await page.setViewportSize({ width: 480, height: 900 });
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(tooWide <= 0, `${tooWide} px`);
    assert.deepEqual(await axe(page), []);
  });
}
