// The Audit Ledger: every row of every chain, as the API has it, and the story of every trade.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';

import { fill } from '../lib/fill.mjs';
import { api, axe, eventually, open, service, shot, test } from '../lib/spec.mjs';

const PAGE_ROWS = 50;
const key = 'reader';

const get = async (path) => {
  const { status, body } = await api(path, { key });
  assert.equal(status, 200, `${path}: ${JSON.stringify(body)}`);
  return body;
};
const text = async (path) => {
  const headers = { Authorization: `Bearer ${service.keys[key]}` };
  return (await fetch(service.url + path, { headers })).text();
};
const query = (parameters) => new URLSearchParams(parameters).toString();

let rows = null;
/** The ids of what the ledger is filled with, once. */
const filled = () => rows ??= fill(service, { rows: 480 });

const at = (chain, parameters = {}) => `/#ledger/${chain}?${query(parameters)}`;
const idsOf = (page) => page.$$eval('.list tbody tr td:first-child', (cells) => cells.map(
  (cell) => Number(cell.textContent),
));
/** Waits until the table has these rows. */
const shows = (page, items) => eventually(async () => {
  assert.deepEqual(await idsOf(page), items.map(({ id }) => id));
});
const button = (page, name) => page.getByRole('button', { name, exact: true });
const detail = (page) => page.locator('.detail');
const here = (page) => {
  const [path, parameters] = new URL(page.url()).hash.split('?');
  return { path, ...Object.fromEntries(new URLSearchParams(parameters)) };
};
const focused = (page) => page.evaluate(() => document.activeElement.textContent);

test('a chain without rows says so, and what fills it', async () => {
  const { page } = await open({ key, path: at('ai_debates') });
  await page.getByText('Nothing was appended to ai_debates yet.').waitFor();
  await page.getByText('0 rows').waitFor();
  assert.deepEqual(await axe(page), []);
  await page.goto(at('trades'));
  await page.getByText('There is no signal yet.').waitFor();
});

/** A value that the filter has rows for, of rows as the API has them. */
function valueFor({ column, comparison }, items) {
  const having = items.filter((row) => row[column] !== null);
  const row = having[Math.floor(having.length / 2)];
  if (!row) return null;
  // The row itself is not before it.
  return String(comparison === 'below' ? having[0][column] : row[column]);
}

test('each kind of filter of each chain lists what the API lists', async () => {
  await filled();
  const { page } = await open({ key, path: at('signals') });
  const { chains } = await get('/v1/chains');
  assert.equal(chains.length, 7);
  const left = [];
  for (const { name: chain, filters } of chains) {
    const { items } = await get(`/v1/${chain}?limit=300`);
    assert.ok(filters.length >= 5);
    const kinds = new Map(filters.map((filter) => [`${filter.comparison} ${filter.type}`, filter]));
    for (const filter of kinds.values()) {
      const value = valueFor(filter, items);
      if (value === null) {
        left.push(filter.name);
        continue;
      }
      const found = await get(`/v1/${chain}?${query({ [filter.name]: value, limit: PAGE_ROWS })}`);
      assert.ok(found.items.length > 0, `${chain} ${filter.name}=${value}`);
      await page.goto(at(chain, { [filter.name]: value }));
      await shows(page, found.items);
    }
  }
  assert.deepEqual(left, []);
});

const addFilter = async (page, name, value) => {
  await page.getByLabel('Filter by').selectOption(name);
  const control = page.locator('#filter-value');
  const isChoice = await control.evaluate(({ tagName }) => tagName === 'SELECT');
  if (isChoice) await control.selectOption(value);
  else await control.fill(value);
  await button(page, 'Add').click();
};

test('filters are added and removed by hand, counted, and stand in the URL', async () => {
  await filled();
  const { page } = await open({ key, path: at('signal_audit_ledger') });
  const given = {
    source_module: 'ema', direction: 'LONG', acted_upon: 'false', min_conviction: '20.5',
    from_id: '3',
  };
  for (const [name, value] of Object.entries(given)) await addFilter(page, name, value);
  const { path, ...rest } = here(page);
  assert.deepEqual(rest, given);
  assert.equal(path, '#ledger/signal_audit_ledger');
  const { items } = await get(`/v1/signal_audit_ledger?${query({ ...given, limit: PAGE_ROWS })}`);
  assert.ok(items.length > 1);
  await shows(page, items);
  const { groups } = await get(`/v1/signal_audit_ledger/stats?${query(given)}`);
  await page.getByText(`${groups[0].count} rows meet the filters`).waitFor();

  await page.getByRole('button', { name: /^Remove the filter direction/ }).click();
  await eventually(() => !('direction' in here(page)));
  await button(page, 'Remove all').click();
  await eventually(() => Object.keys(here(page)).length === 1);
  await shows(page, (await get(`/v1/signal_audit_ledger?limit=${PAGE_ROWS}`)).items);

  const middle = (await get('/v1/signal_audit_ledger/100')).row.created_at;
  await addFilter(page, 'from', middle.slice(0, 19));
  const from = here(page).from;
  assert.equal(from, `${middle.slice(0, 19)}.000000Z`);
  const since = await get(`/v1/signal_audit_ledger?${query({ from, limit: PAGE_ROWS })}`);
  await shows(page, since.items);
  await page.getByLabel('Appended in the last').selectOption({ label: 'hour' });
  await eventually(() => here(page).from < from);

  // What all chains have is kept for another one.
  await addFilter(page, 'source_module', 'ema');
  const lists = page.getByRole('navigation', { name: 'Chains' });
  await lists.getByText('signals', { exact: true }).click();
  await eventually(() => {
    assert.deepEqual(Object.keys(here(page)).sort(), ['from', 'path']);
    assert.equal(here(page).path, '#ledger/signals');
  });
});

test('a link reproduces the view and the open row', async () => {
  const ids = await filled();
  const where = { symbol: 'BTCUSD', order: 'asc', row: String(ids.story.id) };
  const view = await open({ key, path: at('signals', where) });
  const { page } = view;
  const { items } = await get('/v1/signals?symbol=BTCUSD&order=asc&limit=50');
  const looksRight = async (one) => {
    await shows(one, items);
    await detail(one).getByRole('heading', { name: `Row ${ids.story.id}` }).waitFor();
    const { signal_id: name } = ids.story;
    await detail(one).locator('[data-column=signal_id]', { hasText: name }).waitFor();
    assert.equal(await one.locator('tr.current td').first().innerText(), String(ids.story.id));
    await one.getByText('symbol is BTCUSD').waitFor();
    assert.equal(await one.getByLabel('Order').inputValue(), 'asc');
  };
  await looksRight(page);
  await page.reload();
  await looksRight(page);
  // By hand, the same place has the same address.
  await page.goto(at('signals', { symbol: 'BTCUSD' }));
  await page.getByLabel('Order').selectOption('oldest first');
  await shows(page, items);
  await page.locator('.list tbody a.open').first().click();
  await eventually(() => assert.deepEqual(here(page), { path: '#ledger/signals', ...where }));
});

/** All pages of a list, as the API gives them. */
async function pagesOf(chain, parameters) {
  const pages = [];
  let cursor = null;
  do {
    const more = cursor === null ? {} : { cursor };
    const found = await get(`/v1/${chain}?${query({ ...parameters, limit: PAGE_ROWS, ...more })}`);
    pages.push(found.items);
    cursor = found.next_cursor;
  } while (cursor !== null);
  return pages;
}

test('pages are the API’s pages, forwards and back', async () => {
  await filled();
  const path = at('signal_audit_ledger', { record_type: 'SIGNAL' });
  const { page, context } = await open({ key, path });
  const pages = await pagesOf('signal_audit_ledger', { record_type: 'SIGNAL' });
  assert.ok(pages.length >= 3);
  await shows(page, pages[0]);
  assert.ok(await button(page, 'Newer').isDisabled());
  for (const items of pages.slice(1)) {
    await button(page, 'Older').click();
    await shows(page, items);
  }
  assert.ok(await button(page, 'Older').isDisabled());
  const last = page.url();
  for (const items of pages.slice(0, -1).reverse()) {
    await button(page, 'Newer').click();
    await shows(page, items);
  }
  assert.equal(here(page).cursor, undefined);
  await page.goBack();
  await shows(page, pages[1]);
  await page.keyboard.press('n');
  await shows(page, pages[2]);
  await page.keyboard.press('b');
  await shows(page, pages[1]);
  await button(page, 'Newest').click();
  await shows(page, pages[0]);

  // A link to the last page knows the way back, too.
  const other = await context.newPage();
  await other.goto('/');
  await other.evaluate((text) => sessionStorage.setItem('ledger.key', text), service.keys[key]);
  await other.goto(last);
  await other.reload();
  await shows(other, pages.at(-1));
  await button(other, 'Newer').click();
  await shows(other, pages.at(-2));

  const ascending = await pagesOf('signals', { order: 'asc' });
  await page.goto(at('signals', { order: 'asc' }));
  await shows(page, ascending[0]);
  await button(page, 'Newer').click();
  await shows(page, ascending[1]);
  await button(page, 'Older').click();
  await shows(page, ascending[0]);
});

const isDocument = (type) => type === 'document' || type === 'bytes';
const shownTime = (instant) => `${instant.slice(0, 10)} ${instant.slice(11, 26)} UTC`;

function shownValue(type, value) {
  if (value === null) return 'NULL';
  return type === 'time' ? shownTime(value) : String(value);
}

/** What the detail says: texts by the names of columns, of the receipt, and of documents. */
const toldIn = (page) => detail(page).evaluate((element) => {
  const all = (what) => [...element.querySelectorAll(what)];
  // A badge has a sign before it, an anchor a link behind it.
  const bare = (text) => text.replace(/^[!✗✓] /, '').replace(/\s+Story of this\s+trade$/, '');
  return {
    columns: Object.fromEntries(all('[data-column]').map(
      ({ dataset, textContent }) => [dataset.column, bare(textContent)],
    )),
    receipt: Object.fromEntries(all('[data-receipt]').map(
      ({ dataset, textContent }) => [dataset.receipt, textContent],
    )),
    documents: all('.document pre').map(({ textContent }) => textContent),
  };
});

test('a row is shown with every column, as the API has it', async () => {
  await filled();
  const { page } = await open({ key, path: at('signals') });
  const { chains } = await get('/v1/chains');
  for (const { name: chain, columns } of chains) {
    const { items } = await get(`/v1/${chain}?limit=${PAGE_ROWS}`);
    for (const { id } of [items[0], items.at(-1)]) {
      const { row, receipt } = await get(`/v1/${chain}/${id}`);
      await page.goto(at(chain, { row: id }));
      await detail(page).locator('[data-receipt=row_hash]', { hasText: row.row_hash }).waitFor();
      const told = await toldIn(page);
      assert.deepEqual(told.receipt, Object.fromEntries(
        Object.entries(receipt).map(([name, value]) => [name, String(value)]),
      ));
      const cells = columns.filter(({ name, type }) => !isDocument(type) || row[name] === null);
      assert.deepEqual(told.columns, Object.fromEntries(
        cells.map(({ name, type }) => [name, shownValue(type, row[name])]),
      ), `${chain} ${id}`);
      const texts = columns.filter(({ name, type }) => type === 'document' && row[name] !== null);
      if (texts.length > 0) assert.deepEqual(told.documents, texts.map(({ name }) => row[name]));
    }
  }
});

async function saved(page, locator) {
  const [download] = await Promise.all([page.waitForEvent('download'), locator.click()]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

test('a payload is shown byte for byte, whatever stands in it', async () => {
  const ids = await filled();
  const permissions = ['clipboard-read', 'clipboard-write'];
  const { page } = await open({ key, permissions, path: at('signals', { row: ids.hostile.id }) });
  const { row } = await get(`/v1/signals/${ids.hostile.id}`);
  const payload = row.raw_payload_text;
  const parts = ['<script>', '\u2028', '\u202e', '\u{1f680}', '\u{1f468}\u200d\u{1f469}', '\u05e9'];
  for (const part of parts) {
    assert.ok(payload.includes(part));
  }
  const shown = detail(page).getByRole('region', { name: 'raw payload' });
  await shown.waitFor();
  const exact = () => shown.locator('pre').textContent();
  assert.equal(await exact(), payload);
  const bytes = Buffer.from(payload);
  const count = bytes.length.toLocaleString('en-US');
  assert.equal(await shown.locator('[data-is=length]').innerText(), `${count} bytes`);
  const digest = createHash('sha256').update(bytes).digest('hex');
  assert.equal(await shown.locator('[data-is=sha256]').innerText(), digest);
  await shown.getByText('Not seen, but there: U+202E (right-to-left override)').waitFor();
  assert.equal(await page.locator('.ledger :is(img, iframe, script, svg, style)').count(), 0);

  await shown.getByRole('button', { name: 'Copy raw payload' }).click();
  await eventually(async () => {
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), payload);
  });
  const file = await saved(page, shown.getByRole('button', { name: 'Download raw payload' }));
  assert.deepEqual(file.bytes, bytes);

  await button(shown, 'Indented').click();
  await shown.getByText('white space between values is not the original’s').waitFor();
  const indented = await exact();
  assert.notEqual(indented, payload);
  assert.deepEqual(JSON.parse(indented), JSON.parse(payload));
  assert.ok(indented.includes(/"number":(\d+)/.exec(payload)[1]));
  await button(shown, 'As it came').click();
  assert.equal(await exact(), payload);

  // In the table, hostile cells keep to themselves.
  const cell = page.locator('tr.current td', { hasText: '<b onclick=1>' });
  assert.equal(await cell.evaluate((element) => element.textContent), row.symbol);
});

test('bytes are shown as text and in hex', async () => {
  const ids = await filled();
  const { invalid_utf8: id, malformed_json } = ids.quarantined;
  const { page } = await open({ key, path: at('quarantined_deliveries', { row: id }) });
  const { row } = await get(`/v1/quarantined_deliveries/${id}`);
  const bytes = Buffer.from(row.body_base64, 'base64');
  const shown = detail(page).getByRole('region', { name: 'body' });
  await shown.getByText('These bytes are no UTF-8.').waitFor();
  await button(shown, 'Text').click();
  assert.equal(await shown.locator('pre').textContent(), bytes.toString());
  await button(shown, 'Hex').click();
  const dump = await shown.locator('pre').textContent();
  const digits = dump.split('\n').map((line) => line.slice(10, 57).replaceAll(' ', '')).join('');
  assert.equal(digits, bytes.toString('hex'));
  const digest = createHash('sha256').update(bytes).digest('hex');
  assert.equal(await shown.locator('[data-is=sha256]').innerText(), digest);
  const file = await saved(page, shown.getByRole('button', { name: 'Download body' }));
  assert.deepEqual(file.bytes, bytes);

  await page.goto(at('quarantined_deliveries', { row: malformed_json }));
  const other = (await get(`/v1/quarantined_deliveries/${malformed_json}`)).row;
  await detail(page).locator('[data-receipt=row_hash]', { hasText: other.row_hash }).waitFor();
  const exact = await detail(page).locator('.document pre').textContent();
  assert.equal(exact, Buffer.from(other.body_base64, 'base64').toString());
  assert.equal(await shown.getByText('no UTF-8').count(), 0);
});

test('the proof is the service’s, and leads to a checkpoint', async () => {
  const ids = await filled();
  const path = `/v1/proofs/signals/${ids.story.id}`;
  await eventually(async () => (await api(path, { key })).status === 200);
  const { page } = await open({ key, path: at('signals', { row: ids.story.id }) });
  const shown = detail(page).getByRole('region', { name: 'Proof' });
  await shown.getByText('The text, as C2SP tlog-proof has it').click();
  const expected = await text(`${path}?format=tlog-proof`);
  assert.equal(await shown.locator('pre').textContent(), expected);
  const file = await saved(page, shown.getByRole('button', { name: 'Download the proof' }));
  const name = `signals-${ids.story.id}.tlog-proof`;
  assert.deepEqual(file, { name, bytes: Buffer.from(expected) });
  const { tree_size: size, root_hash: root } = await get(path);
  await shown.getByText(`${size.toLocaleString('en-US')} leaves`).waitFor();
  await shown.getByText(root, { exact: true }).first().waitFor();
  const row = await saved(page, button(detail(page), 'Download row'));
  assert.deepEqual(JSON.parse(row.bytes), (await get(`/v1/signals/${ids.story.id}`)).row);
});

test('a story is told in its order, and leads to its rows', async () => {
  const ids = await filled();
  const { correlation_id: anchor } = ids.story;
  const viewport = { width: 1440, height: 900 };
  const { page } = await open({ key, viewport, path: at('signals', { row: ids.story.id }) });
  await detail(page).getByText('Story of this trade').click();
  await eventually(() => assert.equal(here(page).path, `#ledger/trades/${anchor}`));
  const { steps, trade } = await get(`/v1/trades/${anchor}`);
  // What a producer recorded of it stands in another chain.
  const { items } = await get(`/v1/signal_audit_ledger?order=asc&correlation_id=${anchor}`);
  assert.equal(items.length, 2);
  const all = [...steps.map(({ row }) => row), ...items];
  const timeline = page.locator('.timeline > li');
  await timeline.nth(all.length - 1).waitFor();
  const places = await timeline.evaluateAll((items) => items.map((item) => item.dataset.step));
  assert.deepEqual(places, all.map((row) => `${row.chain}:${row.id}`));
  const told = await timeline.allInnerTexts();
  assert.match(told[0], /signal[\s\S]*BUY 0\.5 BTCUSD at 64/);
  assert.match(told[1], /deepseek-r1: confidence 0\.\d+, in [\d,]+ ms/);
  assert.match(told[3], /timeout[\s\S]*gave no answer within 30,000 ms/);
  assert.match(told[4], /LIMIT BUY 0\.5 BTCUSD at .*SUBMITTED, X-00000001/);
  assert.match(told[5], /PARTIAL_FILL[\s\S]*0\.25 at /);
  assert.match(told[6], /FILL[\s\S]*0\.25 at /);
  assert.match(told.at(-1), /acted upon, execution x-story/);
  const span = (micros) => (micros < 1e6 ? `${(micros / 1000).toFixed(1)} ms` : /\d+ s/);
  assert.match(told[1], new RegExp(`\\+${span(steps[1].since_signal_us)}`));
  assert.match(told[2], new RegExp(`${span(steps[2].since_previous_us)} later`));
  const summary = await page.locator('.summary').innerText();
  assert.match(summary, /BUY 0\.5 BTCUSD[\s\S]*FILLED/);
  assert.ok(summary.includes(trade.correlation_id));
  assert.match(summary, /2 models answered/);
  await shot(page, 'story');

  await page.keyboard.press('j');
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  const { id, row_hash: hash } = steps[1].row;
  await detail(page).getByRole('heading', { name: `Row ${id} of ai_debates` }).waitFor();
  await detail(page).locator('[data-receipt=row_hash]', { hasText: hash }).waitFor();
  await page.keyboard.press('Escape');
  await eventually(async () => assert.match(await focused(page), /^AI debate/));
  await page.goto(at(`trades/${anchor}`, { row: places[5] }));
  await detail(page).getByText('In its chain').click();
  await eventually(() => assert.deepEqual(here(page), {
    path: '#ledger/order_events', row: String(steps[5].row.id),
  }));
});

test('what is alarming in a story stands out', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: `/#ledger/trades/${ids.rejected.correlation_id}` });
  const loud = page.locator('.timeline > li.loud');
  await loud.filter({ hasText: 'REJECTED' }).waitFor();
  await page.locator('.headline', { hasText: 'REJECTED' }).waitFor();
  await page.goto(`/#ledger/trades/${ids.killSwitch.correlation_id}`);
  await loud.filter({ hasText: 'KILL_SWITCH' }).filter({ hasText: 'equity ZAR 1250000' }).waitFor();
  assert.match(await loud.innerText(), /2 positions closed/);
  await page.goto(`/#ledger/trades/${ids.flagged.correlation_id}`);
  await loud.filter({ hasText: 'anomaly' }).waitFor();
  await page.getByText('A fill of this trade cannot be.').waitFor();
  await page.goto(`/#ledger/trades/${ids.hostile.correlation_id}`);
  await loud.filter({ hasText: '</td></table><script>' }).waitFor();
  assert.deepEqual(await axe(page), []);

  // A story of more than 10,000 rows, as the service would answer.
  await page.route('**/v1/trades/*', async (route) => {
    const answer = await route.fetch();
    const story = await answer.json();
    await route.fulfill({ json: { ...story, truncated: true, rest: ['/v1/order_events'] } });
  });
  await page.goto(`/#ledger/trades/${ids.story.correlation_id}`);
  await page.getByText(/Only the first \d+ rows of this story are told/).waitFor();
  await page.locator('.story .notice a', { hasText: 'order events' }).waitFor();
});

test('trades are listed, and lead to their stories', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: at('trades') });
  const first = await get(`/v1/trades?limit=${PAGE_ROWS}`);
  const trades = (items) => items.map((trade) => ({ id: trade.signal_row_id }));
  await shows(page, trades(first.items));
  await button(page, 'Older').click();
  const second = await get(`/v1/trades?limit=${PAGE_ROWS}&cursor=${first.next_cursor}`);
  await shows(page, trades(second.items));
  await page.goBack();
  await shows(page, trades(first.items));
  await page.locator('.list tbody a.open', { hasText: String(ids.hostile.id) }).click();
  await page.locator('.summary', { hasText: ids.hostile.correlation_id }).waitFor();
});

test('what is not there or refused is said, with a way out', async () => {
  await filled();
  const view = await open({ key, path: '/#ledger/nonsense' });
  const { page } = view;
  await page.getByText('There is no chain nonsense.').waitFor();
  await page.getByText('Show the first').click();
  await shows(page, (await get(`/v1/signals?limit=${PAGE_ROWS}`)).items);

  view.expect(/status of 404/, /status of 400/);
  const nobody = '00000000-0000-0000-0000-000000000000';
  await page.goto(`/#ledger/trades/${nobody}`);
  await page.getByText(`There is no signal with the correlation id ${nobody}.`).waitFor();
  assert.deepEqual(await axe(page), []);
  await page.goto(at('signals', { side: 'HOLD' }));
  await page.getByText('side is none of BUY, SELL').waitFor();
  await button(page, 'Remove side').click();
  await shows(page, (await get(`/v1/signals?limit=${PAGE_ROWS}`)).items);
  await page.goto(at('signals', { from: 'yesterday' }));
  await page.getByText('from is not an RFC 3339 time').waitFor();
  await button(page, 'Remove all filters').click();
  await page.goto(at('signals', { cursor: 'nonsense' }));
  await page.getByText('cursor is none of this list').waitFor();
  await button(page, 'Remove cursor').click();
  await page.goto(at('signals', { symbl: 'BTCUSD' }));
  await page.getByText('Not a filter of signals: symbl').waitFor();
  await button(page, 'Remove it').click();
  await eventually(() => assert.deepEqual(here(page), { path: '#ledger/signals' }));
  await page.goto(at('signals', { symbol: 'NONE' }));
  await page.getByText('No row meets the filters.').waitFor();
  await page.getByText('0 rows meet the filters').waitFor();
  await page.goto(at('signals', { row: 999999 }));
  await detail(page).getByText('There is no row 999999 in signals.').waitFor();
  await page.keyboard.press('Escape');
  await eventually(async () => assert.equal(await detail(page).count(), 0));
});

test('the keyboard alone is enough', async () => {
  await filled();
  const { page } = await open({ key, path: at('order_events') });
  const { items } = await get(`/v1/order_events?limit=${PAGE_ROWS}`);
  await shows(page, items);
  for (const pressed of ['j', 'j', 'j', 'k']) await page.keyboard.press(pressed);
  assert.equal(await focused(page), String(items[1].id));
  await page.keyboard.press('Enter');
  await detail(page).getByRole('heading', { name: `Row ${items[1].id}` }).waitFor();
  await eventually(() => page.evaluate(() => document.activeElement.matches('.detail')));
  await page.keyboard.press('j');
  assert.equal(await focused(page), String(items[2].id));
  await page.keyboard.press('Enter');
  await detail(page).getByRole('heading', { name: `Row ${items[2].id}` }).waitFor();
  await page.keyboard.press('Escape');
  await eventually(async () => assert.equal(await focused(page), String(items[2].id)));
  assert.equal(await detail(page).count(), 0);
  await page.keyboard.press('/');
  await eventually(() => page.evaluate(() => document.activeElement.id === 'filter-name'));
});

test('it is for everybody, in both themes and in a narrow window', async () => {
  const ids = await filled();
  for (const theme of ['light', 'dark']) {
    const path = at('signals', { symbol: 'BTCUSD', row: ids.story.id });
    const { page } = await open({ key, theme, path });
    await detail(page).locator('.proof dl').waitFor();
    assert.deepEqual(await axe(page), []);
    await page.goto(`/#ledger/trades/${ids.killSwitch.correlation_id}`);
    await page.locator('.timeline').waitFor();
    assert.deepEqual(await axe(page), []);
    await page.goto(at('trades'));
    await page.locator('.rows').waitFor();
    assert.deepEqual(await axe(page), []);
  }
  const { page } = await open({ key, viewport: { width: 480, height: 800 }, path: at('signals') });
  await page.locator('.list tbody a.open').first().click();
  await detail(page).locator('.proof dl').waitFor();
  assert.equal(await page.locator('.list').isVisible(), false);
  const wide = () => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(await wide() <= 0);
  await page.keyboard.press('Escape');
  await page.locator('.list').waitFor();
  assert.ok(await wide() <= 0);
});

test('what it looks like', async () => {
  const ids = await filled();
  const viewport = { width: 1440, height: 900 };
  const { page } = await open({ key, viewport, path: at('signals', { row: ids.story.id }) });
  await detail(page).locator('.proof dl').waitFor();
  await shot(page, 'ledger');
});
