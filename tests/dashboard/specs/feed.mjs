// The Signal Feed: what is appended, as it is appended, and what is counted of it.
import assert from 'node:assert/strict';

import { Sender, fill } from '../lib/fill.mjs';
import { hostile } from '../lib/hostile.mjs';
import { AWAY, api, axe, eventually, harness, open, service, shot, test } from '../lib/spec.mjs';

const SIGNALS = ['signals', 'signal_audit_ledger'];
/** Within which a row is seen that was recorded. */
const LIVE_MS = 3000;

const sender = new Sender(service);
let ids;
let signals = 0;

/** One more signal; returns its name in the list. */
async function signal(changes = {}) {
  signals += 1;
  const body = { signal_id: `feed-${signals}`, symbol: 'BTCUSD', side: 'BUY', price: '64250.5',
    quantity: '0.125', ...changes };
  return `signals ${(await sender.deliver(body)).receipt.id}`;
}

function record(module, at, changes = {}) {
  return { source_module: module, signal_id: `${module} ${at}`, ticker: 'AAPL', direction: 'LONG',
    conviction: '55', timestamp: new Date().toISOString(), payload_json: {}, ...changes };
}

const list = (page) => page.getByRole('region', { name: 'Rows, the newest first' });
const rowLinks = (page) => list(page).locator('tbody a.open');
const shown = (page) => rowLinks(page).allInnerTexts();
const state = (page) => page.locator('#feed-state');
const line = (page, name) => list(page).locator('tr', {
  has: page.getByRole('link', { name, exact: true }) });

/** Opens the tab; it is live, and its first rows are there. */
async function openFeed(options = {}) {
  const { query = '', ...others } = options;
  const view = await open({ key: 'reader', path: `/#feed${query}`, ...others });
  await state(view.page).getByText('live').waitFor();
  await rowLinks(view.page).first().waitFor();
  return view;
}

/** The names of the latest rows of the chains, as the lists have them. */
async function latest(chains = SIGNALS, query = {}) {
  const asked = new URLSearchParams({ ...query, limit: 50 });
  const answers = await Promise.all(chains.map((chain) => api(`/v1/${chain}?${asked}`)));
  const rows = answers.flatMap(({ body }) => body.items);
  rows.sort((one, other) => other.leaf_index - one.leaf_index);
  return rows.slice(0, 50).map(({ chain, id }) => `${chain} ${id}`);
}

/** The numbers of a chart, as its table has them: a list of `{time, NAME: number | null}`. */
async function numbers(page, panel) {
  const details = page.locator(`section[aria-labelledby=${panel}] details.data`);
  await details.waitFor();
  await details.evaluate((element) => { element.open = true; });
  await details.locator('table').waitFor();
  return details.locator('table').evaluate((table) => {
    const names = [...table.tHead.rows[0].cells].slice(1).map((cell) => cell.textContent.trim());
    return [...table.tBodies[0].rows].map((row) => {
      const [time, ...values] = [...row.cells].map((cell) => cell.textContent.trim());
      const number = (text) => (text === '–' ? null : Number(text.replaceAll(',', '')));
      return { time, ...Object.fromEntries(values.map((text, at) => [names[at], number(text)])) };
    });
  });
}

test('an empty ledger says what to do, and its first row comes by itself', async () => {
  const { page } = await open({ key: 'reader', path: '/#feed' });
  await page.getByText('Nothing is recorded in these chains yet.').waitFor();
  await state(page).getByText('live').waitFor();
  assert.deepEqual(await axe(page), []);
  const name = await signal();
  await page.getByRole('link', { name, exact: true }).waitFor();
  ids = await fill(service, { rows: 60 });
});

test('the latest rows are there, and others come on top as they are recorded', async () => {
  const { page } = await openFeed({ viewport: { width: 1440, height: 900 } });
  assert.deepEqual(await shown(page), await latest());
  await page.locator('.plot canvas').nth(1).waitFor();
  await shot(page, 'feed');
  const took = [];
  for (let count = 0; count < 3; count += 1) {
    const name = await signal({ symbol: 'NEWEST' });
    const recorded = Date.now();
    await eventually(async () => (await shown(page))[0] === name);
    took.push(Date.now() - recorded);
    assert.match(await line(page, name).innerText(), /BUY\s+0\.125\s+NEWEST\s+@\s*64250\.5/);
    assert.match(await line(page, name).getAttribute('class'), /new/);
    await eventually(async () => (await line(page, name).getAttribute('class')) !== 'new');
  }
  // The machine may be busy with other tests once, and not each time.
  assert.ok(Math.min(...took) < LIVE_MS, String(took));
  const all = await shown(page);
  assert.equal(new Set(all).size, all.length, 'none is there twice');
  assert.equal(await page.getByRole('heading', { name: 'Quarantine' }).count(), 1);
});

test('a row opens in the Audit Ledger, also by keyboard', async () => {
  const { page } = await openFeed();
  const [first, second] = await shown(page);
  const hasFocus = (name) => eventually(
    async () => (await page.evaluate(() => document.activeElement.textContent)) === name);
  await page.keyboard.press('j');
  await hasFocus(first);
  await page.keyboard.press('j');
  await hasFocus(second);
  await page.keyboard.press('k');
  await hasFocus(first);
  await page.keyboard.press('Enter');
  const [chain, id] = first.split(' ');
  await page.waitForURL((url) => url.hash.startsWith(`#ledger/${chain}?`)
    && new URLSearchParams(url.hash.split('?')[1]).get('row') === id);
});

test('a pause keeps what is shown, and nothing is lost by it', async () => {
  const { page } = await openFeed();
  const before = await shown(page);
  await page.keyboard.press('p');
  await state(page).getByText('paused').waitFor();
  const names = [];
  for (let count = 0; count < 4; count += 1) names.unshift(await signal());
  const resume = page.getByRole('button', { name: 'Resume (4 new)' });
  await resume.waitFor();
  assert.deepEqual(await shown(page), before);
  assert.deepEqual(await axe(page), []);
  await resume.click();
  await eventually(async () => (await shown(page)).length === before.length + 4);
  assert.deepEqual(await shown(page), [...names, ...before]);
  const name = await signal();
  await eventually(async () => (await shown(page))[0] === name);
});

test('chains are chosen, and stand in the URL', async () => {
  const { page } = await openFeed();
  const button = (name) => page.getByRole('group', { name: 'Chains to show' })
    .getByRole('button', { name, exact: true });
  await button('signals').click();
  assert.ok(await button('signal audit ledger').isDisabled(), 'the last one stays');
  await button('order events').click();
  await button('ai debates').click();
  await button('signal audit ledger').click();
  const chains = ['ai_debates', 'order_events'];
  await page.waitForURL((url) => decodeURIComponent(url.hash).includes(`chains=${chains}`));
  const expected = await latest(chains);
  await eventually(async () => (await shown(page)).join() === expected.join());
  await page.reload();
  await eventually(async () => (await shown(page)).join() === expected.join());
  await state(page).getByText('live').waitFor();
  const ignored = await signal();
  const { order_execution_id } = ids.story;
  const { id } = await sender.append('order_events', { order_execution_id, event_type: 'EXPIRED' });
  const name = `order_events ${id}`;
  await eventually(async () => (await shown(page))[0] === name);
  assert.ok(!(await shown(page)).includes(ignored));
});

test('every chain has a line that can be read', async () => {
  const { body: { chains } } = await api('/v1/chains');
  const { page } = await openFeed();
  for (const { name } of chains) {
    await page.goto(`/#feed?chains=${name}`);
    const expected = await latest([name]);
    await eventually(async () => (await shown(page)).join() === expected.join());
    for (const text of await list(page).locator('td.line').allInnerTexts()) {
      assert.match(text.trim(), /\S+\s+\S+/);
      assert.doesNotMatch(text, /undefined|null|NaN|\[object/);
    }
  }
});

test('a filter by symbol leaves out the chains that have none', async () => {
  const { page } = await openFeed();
  await page.keyboard.press('/');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'feed-filter-name');
  await page.getByLabel('Filter by').selectOption('symbol');
  await page.getByLabel('Value').fill('ETHUSD');
  await page.keyboard.press('Enter');
  const expected = await latest(['signals'], { symbol: 'ETHUSD' });
  await eventually(async () => (await shown(page)).join() === expected.join());
  await page.getByText('Left out, because').waitFor();
  assert.ok(page.url().includes('symbol=ETHUSD'));
  await state(page).getByText('live').waitFor();
  const other = await signal({ symbol: 'XAUUSD' });
  const name = await signal({ symbol: 'ETHUSD' });
  await eventually(async () => (await shown(page))[0] === name);
  assert.ok(!(await shown(page)).includes(other));
  assert.deepEqual(await axe(page), []);
  await page.getByRole('button', { name: /^Remove the filter symbol/ }).click();
  await eventually(async () => (await shown(page)).includes(other));
});

test('a source is a filter, too: a module, or a key', async () => {
  const { page } = await openFeed();
  const source = page.getByLabel('Source', { exact: true }).first();
  await eventually(async () => (await source.locator('option').count()) > 3);
  await source.selectOption({ label: 'sentiment' });
  const expected = await latest(['signal_audit_ledger'], { source_module: 'sentiment' });
  await eventually(async () => (await shown(page)).join() === expected.join());
  assert.ok(page.url().includes('source_module=sentiment'));
  await page.reload();
  await eventually(async () => (await shown(page)).join() === expected.join());
  const chosen = source.locator('option:checked');
  await eventually(async () => (await chosen.innerText()) === 'sentiment');
  await source.selectOption({ label: 'tradingview' });
  const delivered = await latest(['signals'], { recorded_by: 'tradingview' });
  await eventually(async () => (await shown(page)).join() === delivered.join());
  assert.ok(!page.url().includes('source_module'));
  await source.selectOption('');
  const all = await latest();
  await eventually(async () => (await shown(page)).join() === all.join());
});

test('a time is a filter: the last minutes, and bounds in the URL', async () => {
  const { body: { items } } = await api('/v1/signals?limit=20');
  const [to, from] = [items[4].created_at, items[14].created_at];
  const bounds = { from, to };
  const view = await openFeed({ query: `?${new URLSearchParams(bounds)}` });
  const { page } = view;
  assert.deepEqual(await shown(page), await latest(SIGNALS, bounds));
  await page.getByText('no new row can meet it').waitFor();
  const late = await signal();
  assert.ok(!(await shown(page)).includes(late));
  await page.getByLabel('Appended in the last').selectOption({ label: '15 minutes' });
  await eventually(async () => (await shown(page))[0] === late);
  assert.ok(!page.url().includes('to='));
});

test('what cannot be asked for is said', async () => {
  const { page } = await openFeed({ query: '?chains=signals,nothing&model_name=x' });
  await page.getByText('There is no chain nothing.').waitFor();
  await page.getByText('None of the chosen chains has model name').waitFor();
  await page.getByRole('button', { name: 'Remove', exact: true }).click();
  await page.getByText('None of the chosen chains has').waitFor({ state: 'detached' });
  const view = await open({ key: 'reader', path: '/#feed?symbol=NONESUCH' });
  await view.page.getByText('No row meets the filters yet.').waitFor();
  view.expect(/status of 400/);
  await view.page.goto('/#feed?from=yesterday');
  await view.page.getByRole('alert').getByText('from').first().waitFor();
  await view.page.getByRole('button', { name: 'Try again' }).first().waitFor();
});

test('a service that goes and comes back leaves no gap', async () => {
  const view = await openFeed();
  const { page } = view;
  view.expect(AWAY);
  const before = await shown(page);
  await harness('stop');
  await state(page).getByText('not connected').waitFor();
  await page.getByText('It is tried again by itself, and goes on').waitFor();
  await harness('start');
  const first = await signal();
  await state(page).getByText('live').waitFor();
  await eventually(async () => (await shown(page))[0] === first);
  await harness('restart');
  const names = [];
  for (let count = 0; count < 5; count += 1) names.unshift(await signal());
  await eventually(async () => (await shown(page))[0] === names[0]);
  assert.deepEqual(await shown(page), [...names, first, ...before]);
  await page.getByText('It is tried again by itself, and goes on').waitFor({ state: 'detached' });
});

test('a kill switch stands out at once, whatever else is shown', async () => {
  const { page } = await openFeed({ query: '?chains=signals&symbol=BTCUSD' });
  const seen = page.locator('#kill-switch-alarm').getByRole('button', { name: 'Seen' });
  await seen.click();
  const event = { order_execution_id: null, event_type: 'KILL_SWITCH', zar_equity: '12345.50',
    positions_closed: [], rejection_reason: 'tested by the desk' };
  const { id } = await sender.append('order_events', event);
  await page.locator('#kill-switch-alarm').waitFor();
  const name = `order_events ${id}`;
  await eventually(async () => (await shown(page))[0] === name);
  assert.match(await line(page, name).getAttribute('class'), /alarming/);
  assert.match(await line(page, name).innerText(), /KILL_SWITCH.*12345\.5.*tested by the desk/s);
  assert.deepEqual(await axe(page), []);
  // And where the chain itself is followed, the banner does not wait to be asked for.
  const other = await openFeed({ query: '?chains=order_events' });
  const { id: next } = await sender.append('order_events', event);
  const link = other.page.locator(`#kill-switch-alarm a[href$="row=${next}"]`);
  await link.waitFor();
  await eventually(async () => (await shown(other.page))[0] === `order_events ${next}`);
});

test('what a sender wrote is text', async () => {
  const asked = (query) => openFeed({ query: `?${new URLSearchParams(query)}` });
  const { page } = await asked({ source_module: hostile.source_module });
  const text = await list(page).innerText();
  for (const part of [hostile.ticker, hostile.type]) assert.ok(text.includes(part), part);
  const titles = await list(page).locator('[title]').evaluateAll(
    (all) => all.map((element) => element.title));
  assert.ok(titles.includes(hostile.source_module));
  const signalled = await asked({ symbol: hostile.symbol });
  assert.ok((await list(signalled.page).innerText()).includes('<b onclick=1>'));
  for (const { page: one } of [{ page }, signalled]) {
    assert.equal(await one.locator('main :is(img, iframe, script, b)').count(), 0);
  }
});

test('the charts show what the service counts', async () => {
  const { page } = await openFeed({ viewport: { width: 1440, height: 900 } });
  const volume = await numbers(page, 'feed-volume');
  assert.equal(volume.length, 24);
  const { body: { groups } } = await api('/v1/signal_audit_ledger/stats?group_by=source_module');
  const totals = new Map(groups.map(({ group, count }) => [group, count]));
  totals.set('tradingview', (await api('/v1/signals/stats')).body.groups[0].count);
  const named = Object.keys(volume[0]).filter((name) => totals.has(name));
  assert.ok(named.length >= 5, named.join());
  const of = (rows, name) => rows.reduce((sum, row) => sum + row[name], 0);
  for (const name of named) assert.equal(of(volume, name), totals.get(name), name);
  const others = Object.keys(volume[0]).find((name) => name.endsWith(' more'));
  const all = [...totals.values()].reduce((sum, count) => sum + count, 0);
  const namedSum = named.reduce((sum, name) => sum + totals.get(name), 0);
  assert.equal(of(volume, others), all - namedSum);
  const { body } = await api('/v1/signal_audit_ledger/stats?group_by=hour');
  const nameOf = (hour) => hour.slice(0, 16).replace('T', ' ');
  const hours = new Map(body.groups.map((group) => [nameOf(group.group), group]));
  for (const row of await numbers(page, 'feed-latency')) {
    const { latency_ms: counted } = hours.get(row.time) ?? { latency_ms: {} };
    for (const share of ['p50', 'p95', 'p99']) assert.equal(row[share], counted[share] ?? null);
  }
  assert.equal(await page.locator('.u-legend').count(), 0);
  assert.equal(await page.locator('.plot canvas').count(), 2);

  await page.getByLabel('Of the last').selectOption({ label: '1 hour' });
  await eventually(async () => (await numbers(page, 'feed-volume')).length === 12);
  const quarters = await numbers(page, 'feed-volume');
  for (const name of named) assert.equal(of(quarters, name), totals.get(name), name);
  await page.getByLabel('Of the last').selectOption({ label: '7 days' });
  await eventually(async () => (await numbers(page, 'feed-volume')).length === 168);
  assert.ok(page.url().includes('range=7d'));
});

test('a line is hidden by its name in the legend; a theme draws anew', async () => {
  const { page } = await openFeed();
  const panel = page.locator('section[aria-labelledby=feed-latency]');
  const drawing = () => panel.locator('canvas').evaluate((canvas) => canvas.toDataURL());
  await panel.locator('canvas').waitFor();
  const before = await drawing();
  await panel.getByRole('button', { name: /^p99/ }).click();
  const pressed = await panel.getByRole('button', { name: /^p99/ }).getAttribute('aria-pressed');
  assert.equal(pressed, 'false');
  await eventually(async () => (await drawing()) !== before);
  const hidden = await drawing();
  await page.keyboard.press('t');
  await eventually(async () => (await drawing()) !== hidden);
  await page.setViewportSize({ width: 480, height: 900 });
  await eventually(() => panel.evaluate((box) => document.documentElement.scrollWidth <= innerWidth
    && box.querySelector('.uplot').clientWidth <= box.clientWidth));
});

test('live, rows are counted by the second as they come', async () => {
  const { page } = await openFeed({ query: '?range=5m' });
  await sender.record(Array.from({ length: 30 }, (_, at) => record('counted', at)));
  const counted = async () => (await numbers(page, 'feed-volume'))
    .reduce((sum, row) => sum + (row.counted ?? 0), 0);
  await eventually(async () => (await counted()) === 30);
});

test('what fails leaves the rest, and is asked for again', async () => {
  const view = await open({ key: 'reader' });
  const { page } = view;
  view.expect(/status of 500/);
  const problem = { title: 'It is broken', detail: 'the test broke it', code: 'TST-001' };
  const refuse = (route) => route.fulfill({ status: 500,
    contentType: 'application/problem+json', body: JSON.stringify(problem) });
  const [stats, rows] = [/\/v1\/signal_audit_ledger\/stats/, /\/v1\/signals\?.*limit=50/];
  await page.route(stats, refuse);
  await page.route(rows, refuse);
  await page.goto('/#feed?range=24h');
  await page.reload();
  await state(page).getByText('live').waitFor();
  const volume = page.locator('section[aria-labelledby=feed-volume]');
  await volume.getByText('TST-001').waitFor();
  const feed = page.locator('section[aria-labelledby=feed-rows]');
  await feed.getByText('TST-001').waitFor();
  assert.ok((await shown(page)).every((name) => name.startsWith('signal_audit_ledger')));
  const name = await signal();
  await eventually(async () => (await shown(page))[0] === name);
  assert.deepEqual(await axe(page), []);
  await page.unroute(stats);
  await page.unroute(rows);
  await volume.getByRole('button', { name: 'Try again' }).click();
  await volume.locator('canvas').waitFor();
  await feed.getByRole('button', { name: 'Try again' }).click();
  const expected = await latest();
  await eventually(async () => (await shown(page)).join() === expected.join());
});

test('more than anybody reads is sampled, which is said, and the page still answers', async () => {
  const { page } = await openFeed();
  await page.evaluate(() => {
    globalThis.slowest = 0;
    let last = performance.now();
    setInterval(() => {
      const now = performance.now();
      globalThis.slowest = Math.max(globalThis.slowest, now - last);
      last = now;
    }, 20);
  });
  const burst = (from, count) => sender.record(
    Array.from({ length: count }, (_, at) => record(`burst-${at % 5}`, from + at)));
  await burst(0, 3000);
  const said = /rows\/s: showing 1 in \d+; all are in the ledger/;
  await page.locator('#feed-sampled').getByText(said).waitFor();
  assert.ok((await rowLinks(page).count()) <= 200);
  const left = await list(page).locator('td:last-child').filter({ hasText: /^\+ / }).count();
  assert.ok(left > 0, 'rows say how many are left out below them');
  await page.keyboard.press('p');
  await state(page).getByText('paused').waitFor();
  await burst(3000, 500);
  await page.getByRole('button', { name: 'Resume (500 new)' }).click();
  const [newest] = await latest(['signal_audit_ledger']);
  await eventually(async () => (await shown(page))[0] === newest);
  assert.ok((await rowLinks(page).count()) <= 200);
  // To draw each of them would take many times as long, on a machine that also runs the service.
  const slowest = await page.evaluate(() => globalThis.slowest);
  assert.ok(slowest < 3000, `it stood still for ${slowest} ms`);
  await page.getByText(/showing 1 in/i).waitFor({ state: 'detached' });
  const { body } = await api('/v1/signal_audit_ledger/stats?source_module=burst-0');
  assert.equal(body.groups[0].count, 700);
});

test('a sample has what is alarming, and counts what it has not', async () => {
  const { page } = await openFeed();
  const found = await page.evaluate(async () => {
    const { sample } = await import('/ui/tabs/feed/model.js');
    const events = (count, alarms = []) => Array.from({ length: count },
      (_, at) => ({ leaf: at, alarming: alarms.includes(at) }));
    const all = [[10, 20], [10, 4], [3000, 200], [7, 1], [250, 7, [1, 100, 101]]];
    return all.map(([count, room, alarms]) => {
      const chosen = sample(events(count, alarms), room, 5);
      return { count, room, leaves: chosen.map(({ event }) => event.leaf), alarms: alarms ?? [],
        skipped: chosen.reduce((sum, one) => sum + one.skipped, 0) };
    });
  });
  for (const { count, room, leaves, alarms, skipped } of found) {
    assert.equal(leaves.length + skipped, count + 5);
    assert.equal(leaves.at(-1), count - 1, 'the newest');
    assert.ok(leaves.length <= Math.min(count, room) + alarms.length);
    assert.ok(leaves.length >= Math.min(count, room));
    for (const alarm of alarms) assert.ok(leaves.includes(alarm));
  }
});

test('a member is read from a row as JSON reads it', async () => {
  const { page } = await openFeed();
  const texts = ['plain', '', 'a "quoted" one', '\\', 'ends in \\"', '","actor":"other',
    '\u2028é💥', hostile.reason];
  const read = await page.evaluate(async (all) => {
    const { textMember } = await import('/ui/tabs/feed/event.js');
    const row = (actor) => JSON.stringify({ before: '"actor":"no"', actor, after: 1 });
    return all.map((text) => textMember(row(text), 'actor'));
  }, texts);
  assert.deepEqual(read, texts);
});

test('it is accessible in both themes, at once and with everything open', async () => {
  for (const theme of ['light', 'dark']) {
    const view = await openFeed({ theme, viewport: { width: 1440, height: 900 }, key: 'admin' });
    const { page } = view;
    await page.locator('.plot canvas').nth(1).waitFor();
    assert.deepEqual(await axe(page), []);
    await numbers(page, 'feed-volume');
    await numbers(page, 'feed-latency');
    assert.deepEqual(await axe(page), []);
    await page.getByLabel('Of the last').selectOption({ label: '5 minutes, live' });
    await page.getByText('Counted here since').waitFor();
    assert.deepEqual(await axe(page), []);
    await view.close();
  }
});
