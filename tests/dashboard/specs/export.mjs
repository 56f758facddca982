// Exports: which rows, how many they are, and that every way leads to the same bytes.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { inflateRawSync } from 'node:zlib';

import { Sender, fill } from '../lib/fill.mjs';
import { hostile } from '../lib/hostile.mjs';
import { api, axe, eventually, open, service, shot, test } from '../lib/spec.mjs';

const run = promisify(execFile);
const ids = await fill(service, { rows: 60 });

const panel = (page, name) => page.getByRole('region', { name, exact: true });
const held = (page) => panel(page, 'What it will hold');
const downloadButton = (page) => page.getByRole('button', { name: /^Download / });
const hashOf = (chain, query) => `/#export/${chain}?${new URLSearchParams(query)}`;

/** The file itself, as the API answers. */
async function exported(chain, query) {
  const url = `${service.url}/v1/export/${chain}?${new URLSearchParams(query)}`;
  const headers = { Authorization: `Bearer ${service.keys.exporter}` };
  const answer = await fetch(url, { headers });
  assert.equal(answer.status, 200);
  return Buffer.from(await answer.arrayBuffer());
}

async function countOf(chain, query) {
  const { body } = await api(`/v1/${chain}/stats?${new URLSearchParams(query)}`);
  return body.groups[0]?.count ?? 0;
}

async function shownCount(page) {
  return Number(await held(page).locator('[data-count]').getAttribute('data-count'));
}

/** Has the browser download what is built, and returns its name and bytes. */
async function downloaded(page) {
  const started = page.waitForEvent('download');
  await downloadButton(page).click();
  const download = await started;
  assert.equal(await download.failure(), null);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

/** The files of a zip that was written with a central directory: name to bytes. */
function unzipped(zip) {
  const files = new Map();
  const end = zip.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]));
  let at = zip.readUInt32LE(end + 16);
  for (let left = zip.readUInt16LE(end + 10); left > 0; left -= 1) {
    const [method, size] = [zip.readUInt16LE(at + 10), zip.readUInt32LE(at + 20)];
    const lengths = [28, 30, 32].map((offset) => zip.readUInt16LE(at + offset));
    const [nameLength, extra, comment] = lengths;
    const name = zip.toString('utf8', at + 46, at + 46 + nameLength);
    const local = zip.readUInt32LE(at + 42);
    const data = local + 30 + zip.readUInt16LE(local + 26) + zip.readUInt16LE(local + 28);
    const packed = zip.subarray(data, data + size);
    files.set(name, method === 0 ? packed : inflateRawSync(packed));
    at += 46 + nameLength + extra + comment;
  }
  return files;
}

for (const [format, title] of [['csv', 'CSV'], ['json', 'JSON'], ['ndjson', 'NDJSON']]) {
  test(`${title} is downloaded byte for byte, and its link is good once`, async () => {
    const query = { symbol: 'BTCUSD' };
    const { page } = await open({ key: 'exporter', path: hashOf('signals', query) });
    await page.getByRole('radio', { name: new RegExp(`^${title} `) }).check();
    const asked = page.waitForResponse('**/v1/downloads');
    const { name, bytes } = await downloaded(page);
    assert.match(name, new RegExp(`^signals-\\d{8}T\\d{6}Z\\.${format}$`));
    assert.ok(bytes.length > 300);
    assert.deepEqual(bytes, await exported('signals', { ...query, format }));

    const { url } = await (await asked).json();
    const again = await fetch(new URL(url, service.url));
    assert.equal(again.status, 404);
    // What the ledger has on record of it stands beside it.
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    const line = page.getByRole('list', { name: 'Downloads of this page' });
    await line.getByText('complete').waitFor();
    await line.getByTitle(sha256).waitFor();
  });
}

test('a bundle is of a range alone, and holds what the other formats do', async () => {
  const range = { from_id: '3', to_id: '9' };
  const query = { ...range, symbol: 'BTCUSD', format: 'bundle' };
  const { page } = await open({ key: 'exporter', path: hashOf('signals', query) });
  const notice = page.getByText('A bundle takes ranges of ids and times only');
  await notice.waitFor();
  await eventually(async () => assert.equal(await shownCount(page), 7));
  const options = page.getByLabel('Filter by').locator('option');
  const names = await options.evaluateAll((all) => all.map(({ value }) => value));
  assert.deepEqual(names.filter(Boolean).sort(), ['from', 'from_id', 'to', 'to_id']);

  const { name, bytes } = await downloaded(page);
  assert.match(name, /^signals-.+\.zip$/);
  const files = unzipped(bytes);
  const manifest = JSON.parse(files.get('manifest.json'));
  assert.deepEqual(manifest.filter, { from_id: 3, to_id: 9 });
  assert.equal(manifest.rows, 7);
  for (const [file, sha256] of Object.entries(manifest.files)) {
    assert.equal(createHash('sha256').update(files.get(file)).digest('hex'), sha256, file);
  }
  for (const format of ['ndjson', 'csv']) {
    const expected = await exported('signals', { ...range, format });
    assert.deepEqual(files.get(`records.${format}`), expected);
  }
  assert.ok(files.get('checkpoint.txt').length > 0);
  await page.getByText('ledger-verify bundle signals.zip --key vkey.txt').waitFor();

  await page.getByRole('button', { name: 'Remove from the filters' }).click();
  await notice.waitFor({ state: 'detached' });
  assert.ok(!page.url().includes('symbol'));
});

/** Adds a filter as people do. */
async function addFilter(page, name, value) {
  await page.getByLabel('Filter by').selectOption(name);
  const field = page.getByLabel('Value');
  if (await field.evaluate(({ tagName }) => tagName === 'SELECT')) await field.selectOption(value);
  else await field.fill(value);
  await page.getByRole('button', { name: 'Add', exact: true }).click();
}

test('each kind of filter counts what the API counts, and a link keeps it', async () => {
  const { body: { items: [row] } } = await api('/v1/signal_audit_ledger?limit=1&direction=LONG');
  const second = (time) => time.slice(0, 19);
  // The input leaves seconds out that are none.
  const typed = (time) => second(time).replace(/:00$/, '');
  const { page } = await open({ key: 'exporter', path: '/#export' });
  await page.getByLabel('Chain').selectOption('signal_audit_ledger');
  const total = await countOf('signal_audit_ledger', {});
  await eventually(async () => assert.equal(await shownCount(page), total));
  const counts = new Set();
  for (const [name, value, asked = value] of [
    ['ticker', row.ticker], ['direction', 'SHORT'], ['acted_upon', 'true'],
    ['record_type', 'OUTCOME'],
    ['min_conviction', '60.5'], ['max_conviction', '40'], ['from_id', '20'], ['to_id', '7'],
    ['correlation_id', ids.story.correlation_id], ['row_hash', row.row_hash],
    ['from', typed(row.created_at), `${second(row.created_at)}.000000Z`],
    ['timestamp_to', typed(row.timestamp), `${second(row.timestamp)}.000000Z`],
  ]) {
    await addFilter(page, name, value);
    assert.equal(new URLSearchParams(page.url().split('?')[1]).get(name), asked);
    const expected = await countOf('signal_audit_ledger', { [name]: asked });
    await eventually(async () => assert.equal(await shownCount(page), expected, name));
    counts.add(expected);
    await page.getByRole('button', { name: /^Remove the filter/ }).click();
  }
  assert.ok(counts.size > 6, [...counts].join());

  await addFilter(page, 'direction', 'LONG');
  await addFilter(page, 'from_id', '5');
  await page.getByRole('radio', { name: /^CSV / }).check();
  const query = { direction: 'LONG', from_id: '5' };
  const expected = await countOf('signal_audit_ledger', query);
  await page.reload();
  await eventually(async () => assert.equal(await shownCount(page), expected));
  const { bytes } = await downloaded(page);
  assert.deepEqual(bytes, await exported('signal_audit_ledger', { ...query, format: 'csv' }));
  const path = `/v1/signal_audit_ledger/stats?${new URLSearchParams(query)}`;
  const [stats] = (await api(path)).body.groups;
  await held(page).getByText(`${stats.first_id} to ${stats.last_id}`).waitFor();
});

test('the count follows the ledger', async () => {
  const { page } = await open({ key: 'exporter', path: hashOf('signals', { symbol: 'NEW-HERE' }) });
  await held(page).getByText('The export would be empty.').waitFor();
  const signal = { signal_id: 'new', symbol: 'NEW-HERE', side: 'BUY', price: '1', quantity: '1' };
  await new Sender(service).deliver(signal);
  await eventually(async () => assert.equal(await shownCount(page), 1));
  await held(page).getByText('1 row', { exact: true }).waitFor();
});

/** Runs a command as it was copied, and returns the file that it wrote. */
async function inShell(command) {
  const cwd = mkdtempSync(join(tmpdir(), 'spec-'));
  try {
    const env = { PATH: process.env.PATH, LEDGER_KEY: service.keys.exporter, HOME: '/nowhere' };
    await run('bash', ['-c', command], { cwd, env });
    const [name, ...others] = readdirSync(cwd);
    assert.deepEqual(others, []);
    return { name, bytes: readFileSync(join(cwd, name)) };
  } finally {
    rmSync(cwd, { recursive: true });
  }
}

/** The words that a shell makes of a command. */
async function wordsOf(command) {
  const { stdout } = await run('bash', ['-c', `printf '%s\\0' ${command}`]);
  return stdout.split('\0').slice(0, -1);
}

test('curl gets the same bytes, and the key is in no command', async () => {
  const context = { permissions: ['clipboard-read', 'clipboard-write'] };
  const strange = { signal_id: 'it\'s $HOME `id` "&\\' };
  for (const query of [{ symbol: 'ETHUSD' }, { symbol: hostile.symbol }, strange]) {
    const path = hashOf('signals', { ...query, format: 'csv' });
    const { page } = await open({ key: 'exporter', path, ...context });
    await page.getByRole('button', { name: 'Copy curl' }).click();
    const command = await eventually(() => page.evaluate(() => navigator.clipboard.readText()));
    assert.ok(!command.includes(service.keys.exporter) && command.includes('$LEDGER_KEY'), command);
    const shown = (name) => page.getByRole('region', { name, exact: true }).locator('pre');
    assert.equal(command, await shown('curl').innerText());
    const { name, bytes } = await inShell(command);
    assert.match(name, /^signals-.+\.csv$/);
    assert.deepEqual(bytes, await exported('signals', { ...query, format: 'csv' }));

    const [[filter, value]] = Object.entries(query);
    const words = await wordsOf(await shown('audit-ledger').innerText());
    assert.deepEqual(words, ['audit-ledger', 'export', 'signals', '--format', 'csv', '--filter',
      `${filter}=${value}`, '--output', 'signals.csv']);
  }
});

test('a filter that cannot be read is named, and so is one that is not of the chain', async () => {
  const path = hashOf('signals', { from_id: 'abc', format: 'csv' });
  const view = await open({ key: 'exporter', path });
  view.expect(/status of 400/);
  const { page } = view;
  await held(page).getByText('VAL-003: from_id').waitFor();
  await held(page).getByText('Look at from_id.').waitFor();
  await downloadButton(page).click();
  await panel(page, 'Export').getByText('VAL-003: from_id').waitFor();
  await page.getByRole('button', { name: /^Remove the filter id from/ }).click();
  await eventually(async () => assert.equal(await shownCount(page), await countOf('signals', {})));
  assert.equal(await page.getByText('VAL-003').count(), 0);

  await page.goto(hashOf('ai_debates', { symbol: 'BTCUSD' }));
  await page.getByText('Not a filter of ai debates').waitFor();
  await page.goto('/#export/nothing');
  await page.getByText('There is no chain nothing').waitFor();
});

test('a link that is refused says why, and is tried again', async () => {
  const view = await open({ key: 'exporter', path: hashOf('signals', { format: 'csv' }) });
  view.expect(/status of 503/);
  const { page } = view;
  await page.route('**/v1/downloads', (route) => route.fulfill({
    status: 503, contentType: 'application/problem+json',
    body: JSON.stringify({ code: 'SYS-001', detail: '4 exports are under way' }),
  }), { times: 1 });
  await downloadButton(page).click();
  await page.getByText('SYS-001: 4 exports are under way').waitFor();
  const started = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Try again' }).click();
  assert.equal(await (await started).failure(), null);
  await page.getByText('SYS-001').waitFor({ state: 'detached' });
});

test('a key is offered what its scopes allow', async () => {
  const { page } = await open({ key: 'reader', path: hashOf('signals', { symbol: 'BTCUSD' }) });
  await page.getByText('Exports and replays need the scope export.').waitFor();
  assert.equal(await downloadButton(page).count(), 0);
  assert.equal(await page.getByText('LEDGER_KEY').count(), 0);

  const { page: blind } = await open({ key: null, path: '/' });
  const holder = { name: 'exporter', scopes: ['export'] };
  await blind.route('**/v1/key', (route) => route.fulfill({ json: holder }));
  await blind.goto(hashOf('signals', { symbol: 'BTCUSD', format: 'csv' }));
  await blind.getByLabel('API key').fill(service.keys.exporter);
  await blind.keyboard.press('Enter');
  await blind.getByText('Counting rows needs the scope read.').waitFor();
  const { bytes } = await downloaded(blind);
  assert.deepEqual(bytes, await exported('signals', { symbol: 'BTCUSD', format: 'csv' }));
  await blind.getByText('handed to the browser').waitFor();
});

test('the keyboard is enough', async () => {
  const { page } = await open({ key: 'exporter', path: '/#export/signals' });
  await held(page).locator('[data-count]').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('side');
  await page.keyboard.press('Tab');
  await page.keyboard.type('SELL');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  const expected = await countOf('signals', { side: 'SELL' });
  await eventually(async () => assert.equal(await shownCount(page), expected));
  const chosen = page.getByRole('radio', { checked: true });
  while (!await chosen.evaluate((one) => one === document.activeElement)) {
    await page.keyboard.press('Tab');
  }
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('Tab');
  const started = page.waitForEvent('download');
  await page.keyboard.press('Enter');
  assert.match((await started).suggestedFilename(), /\.csv$/);
});

for (const theme of ['light', 'dark']) {
  test(`nothing keeps people out: ${theme}`, async () => {
    const path = hashOf('signals', { symbol: 'BTCUSD', from_id: 1, format: 'bundle' });
    const viewport = { width: 1440, height: 900 };
    const { page } = await open({ key: 'admin', theme, viewport, path });
    await held(page).getByText('Newest rows').waitFor();
    assert.deepEqual(await axe(page), []);
    await page.goto(hashOf('signal_audit_ledger', { ticker: 'AAPL', format: 'csv' }));
    await held(page).getByText('Newest rows').waitFor();
    if (theme === 'light') await shot(page, 'export');
    await page.setViewportSize({ width: 480, height: 900 });
    const tooWide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(tooWide <= 0, `${tooWide} px`);
    assert.deepEqual(await axe(page), []);
  });
}
