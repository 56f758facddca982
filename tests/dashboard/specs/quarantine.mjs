// Deliveries in quarantine: which they are, their exact bytes, and the way out.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { Sender, fill } from '../lib/fill.mjs';
import { api, axe, eventually, harness, open, service, shot, test } from '../lib/spec.mjs';

const HERE = '/#export/quarantine';
const ids = await fill(service, { rows: 16 });
const { duplicate_of: recorded, ...byReason } = ids.quarantined;

const rowOf = async (id) => (await api(`/v1/quarantined_deliveries/${id}`)).body.row;
const bytesOf = (row) => Buffer.from(row.body_base64, 'base64');
const deliveries = async (query) => (await api(`/v1/quarantined_deliveries?${query}`)).body.items;

/** Deliveries as a lockdown would have kept them: their ids. */
async function keep(count, reason, bodyOf) {
  const kept = [];
  for (let at = 1; at <= count; at += 1) {
    const row = {
      source: 'tradingview', reason, body_base64: Buffer.from(bodyOf(at)).toString('base64'),
      detail: 'kept; sender: {"recorded_by":"tradingview","webhook_id":null}',
      auth_method: 'hmac', hmac_verified: true, received_at: new Date().toISOString(),
      source_ip: '10.0.0.1',
    };
    const sql = `SELECT id FROM public.append_quarantined_deliveries('${JSON.stringify(row)}')`;
    kept.push(Number(await harness('psql', { sql })));
  }
  return kept;
}

const signal = (id) => JSON.stringify({ signal_id: id, symbol: 'BTCUSD', side: 'BUY', price: '1.5',
  quantity: '2' });

const list = (page) => page.getByRole('region', { name: 'Deliveries in quarantine' });
const rows = (page) => list(page).locator('tbody tr');
const shownIds = async (page) => (await rows(page).locator('a.open').allInnerTexts()).map(Number);
const detail = (page) => page.locator('.delivery');
const dialog = (page) => page.getByRole('dialog');

async function openOne(page, id) {
  await rows(page).locator('a.open', { hasText: new RegExp(`^${id}$`) }).click();
  await detail(page).getByRole('heading', { name: `Delivery ${id}`, exact: true }).waitFor();
}

const bytesBox = (page) => detail(page).getByRole('region', { name: 'The exact bytes' });
const shownText = (page) => bytesBox(page).locator('pre').textContent();

async function shownHex(page) {
  const lines = (await bytesBox(page).locator('pre.hex').textContent()).split('\n');
  const digits = lines.map((line) => line.slice(10, 57).replaceAll(' ', ''));
  return Buffer.from(digits.join(''), 'hex');
}

async function checkBytes(page, row) {
  const bytes = bytesOf(row);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const box = detail(page);
  await box.getByText(sha256).waitFor();
  await box.getByText(`${bytes.length.toLocaleString('en-US')} bytes`, { exact: true }).waitFor();
  const isText = Buffer.from(bytes.toString('utf8')).equals(bytes);
  if (isText) assert.equal(await shownText(page), bytes.toString('utf8'));
  else await box.getByText(/^The byte at offset \d+ .* cannot stand there/).waitFor();
  await box.getByRole('button', { name: 'Hex', exact: true }).click();
  assert.deepEqual(await shownHex(page), bytes);
  const saved = page.waitForEvent('download');
  await box.getByRole('button', { name: 'Download The exact bytes' }).click();
  const download = await saved;
  assert.match(download.suggestedFilename(), new RegExp(`^quarantined-delivery-${row.id}\\.`));
  assert.deepEqual(readFileSync(await download.path()), bytes);
}

test('every reason is explained, and every byte is there', async () => {
  const { page } = await open({ key: 'admin', path: HERE });
  const expected = (await deliveries('limit=1000')).map(({ id }) => id);
  await rows(page).first().waitFor();
  assert.deepEqual(await shownIds(page), expected);
  const explained = new Set();
  const malformed = ['malformed_json', ids.hostile.quarantine_id];
  for (const [reason, id] of [...Object.entries(byReason), malformed]) {
    const row = await rowOf(id);
    assert.equal(row.reason, reason);
    await openOne(page, id);
    const box = detail(page);
    assert.match(await box.locator('.why').innerText(), new RegExp(`^${reason} .+\\.`));
    explained.add(await box.locator('.why').innerText());
    const [told] = row.detail.split('; sender: ');
    await box.locator('.told', { hasText: told }).waitFor();
    const facts = await box.locator('.facts').first().innerText();
    for (const fact of ['tradingview', '127.0.0.1', 'hmac, HMAC verified', 'application/json']) {
      assert.ok(facts.includes(fact), `${fact} in ${facts}`);
    }
    await checkBytes(page, row);
  }
  assert.equal(explained.size, Object.keys(byReason).length + 1);
  await openOne(page, byReason.conflicting_duplicate);
  const story = detail(page).getByRole('link', { name: recorded.slice(0, 8) });
  assert.ok((await story.getAttribute('href')).includes(recorded));
});

test('characters that cannot be seen are marked, and long bodies come in parts', async () => {
  const unseen = 'a\u0000b\tc\nd\u202ee\u200b\u007f\ufeff<img src=x onerror=pwned=1>';
  const body = Buffer.from(unseen + '\u00e9'.repeat(110_000));
  const [id] = await keep(1, 'malformed_json', () => body);
  const { page } = await open({ key: 'reader', path: `${HERE}?delivery=${id}` });
  const box = detail(page);
  const marks = bytesBox(page).locator('.unseen-char');
  await marks.first().waitFor();
  const codes = await marks.evaluateAll((all) => all.map(({ dataset }) => dataset.code));
  assert.deepEqual(codes, ['U+0000', 'U+202E', 'U+200B', 'U+007F', 'U+FEFF']);
  assert.ok(body.toString().startsWith(await shownText(page)));
  await box.getByRole('button', { name: /^Show the other/ }).click();
  await checkBytes(page, await rowOf(id));
});

test('the list goes back page by page, and is narrowed by reason and source', async () => {
  const kept = await keep(30, 'lockdown', (at) => signal(`paged-${at}`));
  const { page } = await open({ key: 'reader', path: HERE });
  await rows(page).first().waitFor();
  const all = (await deliveries('limit=1000')).map(({ id }) => id);
  assert.deepEqual(await shownIds(page), all.slice(0, 25));
  await page.getByRole('button', { name: 'Show older ones' }).click();
  await eventually(async () => assert.deepEqual(await shownIds(page), all));
  assert.equal(await page.getByRole('button', { name: 'Show older ones' }).count(), 0);

  await page.getByLabel('Reason').selectOption('too_long');
  await eventually(async () => assert.deepEqual(await shownIds(page), [byReason.too_long]));
  assert.match(page.url(), /#export\/quarantine\?reason=too_long$/);
  assert.match(await page.getByLabel('Reason').locator('option:checked').innerText(), /\(1\)$/);
  await page.getByLabel('Source').selectOption('tradingview');
  assert.match(page.url(), /source=tradingview/);
  await page.goBack();
  await page.goBack();
  await eventually(async () => assert.deepEqual(await shownIds(page), all.slice(0, 25)));

  await page.goto(`${HERE}?reason=lockdown&source=elsewhere`);
  await page.getByText('No delivery is in quarantine for this reason and source').waitFor();
  await page.getByRole('button', { name: 'Show all' }).click();
  await eventually(async () => assert.deepEqual(await shownIds(page), all.slice(0, 25)));

  const [newer] = await keep(1, 'lockdown', () => signal('newer'));
  await page.getByRole('button', { name: 'There are newer deliveries' }).click();
  await eventually(async () => assert.equal((await shownIds(page))[0], newer));
  assert.equal(kept.length, 30);
});

test('a delivery is released after it was asked, and what it became is shown', async () => {
  const [id] = await keep(1, 'missing_field', () => signal('released-1'));
  const { page } = await open({ key: 'admin', path: `${HERE}?delivery=${id}` });
  const box = detail(page);
  await box.getByRole('button', { name: 'Release…' }).click();
  const asked = await dialog(page).innerText();
  for (const part of [`Release delivery ${id}?`, 'signals', 'tradingview', 'admin', 'for good']) {
    assert.ok(asked.includes(part), asked);
  }
  await dialog(page).getByRole('button', { name: 'Cancel' }).click();
  assert.deepEqual((await api('/v1/signals?signal_id=released-1')).body.items, []);

  await box.getByRole('button', { name: 'Release…' }).click();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await box.getByText('Recorded as signal').waitFor();
  const { body: { items: [row] } } = await api('/v1/signals?signal_id=released-1');
  const answer = await box.getByRole('alert').innerText();
  assert.ok(answer.includes(`Recorded as signal ${row.id}.`), answer);
  assert.equal(await box.getByRole('link', { name: `signal ${row.id}` }).getAttribute('href'),
    `#ledger/signals?row=${row.id}`);
  const story = await box.getByRole('link', { name: 'its story' }).getAttribute('href');
  assert.ok(story.includes(row.correlation_id), story);
  await rows(page).filter({ has: page.locator(`#delivery-${id}`) })
    .getByRole('link', { name: `signal ${row.id}` }).waitFor();

  await page.reload();
  await box.getByText(`released as signal ${row.id}`).waitFor();
  await box.getByRole('button', { name: 'Release again…' }).click();
  await dialog(page).getByText('It was released before').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await box.getByText(`A duplicate of signal ${row.id}`).waitFor();
});

test('a refusal says why, in its place', async () => {
  const id = byReason.missing_field;
  const view = await open({ key: 'admin', path: `${HERE}?delivery=${id}` });
  view.expect(/status of 422/);
  const { page } = view;
  await detail(page).getByRole('button', { name: 'Release…' }).click();
  await dialog(page).getByText('will be refused again').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await detail(page).getByText('VAL-002: price is missing').waitFor();
  await detail(page).getByText(`Delivery ${id} stays in quarantine.`).waitFor();

  await page.goto(`${HERE}?delivery=999999`);
  view.expect(/status of 404/);
  await detail(page).getByText('there is no such row').waitFor();
});

/** The ids of the signals of these deliveries, in their order. */
async function signalsOf(names) {
  const found = [];
  for (const name of names) {
    found.push((await api(`/v1/signals?signal_id=${name}`)).body.items[0]?.id);
  }
  return found;
}

test('several are released in the order of their ids, and refusals hold nothing up', async () => {
  const kept = await keep(3, 'lockdown', (at) => signal(`several-${at}`));
  const view = await open({ key: 'admin', path: HERE });
  view.expect(/status of 422/);
  const { page } = view;
  const choose = (id) => page.getByLabel(`Choose delivery ${id}`, { exact: true }).check();
  for (const id of [kept[2], kept[0], kept[1]]) await choose(id);
  await page.getByRole('button', { name: 'Show older ones' }).click();
  await choose(byReason.not_an_object);
  await page.getByRole('button', { name: 'Release 4 chosen…' }).click();
  await dialog(page).getByText('in the order of their ids').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await page.getByText('Done: 4 of 4: 3 recorded, 1 refused').waitFor();
  const refusal = 'VAL-001: the body is not a JSON object';
  await page.getByText(`delivery ${byReason.not_an_object}: ${refusal}`).waitFor();
  const signals = await signalsOf(['several-1', 'several-2', 'several-3']);
  assert.deepEqual(signals, [...signals].sort((one, other) => one - other));
  await page.getByRole('button', { name: 'Dismiss' }).click();
  assert.equal(await page.getByText('Done: 4 of 4').count(), 0);
});

test('a run that cannot go on stops, says where, and goes on from there', async () => {
  const all = (await deliveries('reason=lockdown&limit=1000&order=asc')).map(({ id }) => id);
  const events = await api('/v1/security_events?event_type=QUARANTINE_RELEASED&limit=1000');
  const details = events.body.items.map(({ details_text: text }) => JSON.parse(text));
  const before = new Set(details.map(({ quarantine_id: id }) => id));
  const left = all.filter((id) => !before.has(id));
  assert.ok(left.length > 20, `${left.length}`);
  const view = await open({ key: 'admin', path: `${HERE}?reason=lockdown` });
  view.expect(/status of 423/);
  const { page } = view;
  const locked = `**/v1/quarantined_deliveries/${left[5]}/release`;
  await page.route(locked, (route) => route.fulfill({
    status: 423, contentType: 'application/problem+json',
    body: JSON.stringify({ code: 'AUD-009', detail: 'the ledger is locked down', status: 423 }),
  }));
  await page.getByRole('button', { name: `Release all ${all.length} of this filter…` }).click();
  await dialog(page).getByText('released before are left out').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  // It goes on while another tab is looked at.
  await page.getByRole('link', { name: 'Integrity Check' }).click();
  await eventually(async () => assert.equal((await signalsOf(['paged-5'])).length, 1));
  await page.goBack();
  const stopped = `Stopped halfway: 5 of ${all.length}: 5 recorded`;
  await page.getByText(stopped, { exact: true }).waitFor();
  await page.getByText('AUD-009: the ledger is locked down').waitFor();
  await page.getByText(`It goes on with delivery ${left[5]}.`).waitFor();
  assert.deepEqual((await signalsOf(['paged-6'])), [undefined]);

  await page.unroute(locked);
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByText(`Done: ${all.length} of ${all.length}: ${left.length} recorded`).waitFor();
  const names = Array.from({ length: 30 }, (_, at) => `paged-${at + 1}`);
  const signals = await signalsOf(names);
  assert.deepEqual(signals, [...signals].sort((one, other) => one - other));
  assert.ok(signals.every(Number.isInteger));
});

test('a key is offered what its scopes allow', async () => {
  const { page } = await open({ key: 'reader', path: `${HERE}?delivery=${byReason.too_long}` });
  await detail(page).getByText('A key with the scope admin can release it.').waitFor();
  assert.equal(await page.getByRole('button', { name: /Release/ }).count(), 0);
  assert.equal(await page.getByRole('checkbox').count(), 0);
  const { page: other } = await open({ key: 'ingest', path: HERE });
  await other.getByText('This key may not read').waitFor();
});

test('the keyboard is enough', async () => {
  const { page } = await open({ key: 'admin', path: `${HERE}?reason=too_long` });
  await rows(page).first().waitFor();
  await page.keyboard.press('j');
  await page.keyboard.press('Enter');
  await detail(page).getByRole('button', { name: 'Release…' }).waitFor();
  await eventually(() => detail(page).evaluate((box) => box === document.activeElement));
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await dialog(page).waitFor();
  await page.keyboard.press('Escape');
  await dialog(page).waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.innerText), 'Release…');
  await page.keyboard.press('Escape');
  await detail(page).waitFor({ state: 'detached' });
  await eventually(() => page.evaluate((id) => document.activeElement.innerText === id,
    String(byReason.too_long)));
});

for (const theme of ['light', 'dark']) {
  test(`nothing keeps people out: ${theme}`, async () => {
    const viewport = { width: 1440, height: 900 };
    const path = `${HERE}?delivery=${byReason.nul_character}`;
    const { page } = await open({ key: 'admin', theme, viewport, path });
    await bytesBox(page).waitFor();
    await rows(page).first().waitFor();
    if (theme === 'light') await shot(page, 'quarantine');
    assert.deepEqual(await axe(page), []);
    await detail(page).getByRole('button', { name: 'Release…' }).click();
    await dialog(page).waitFor();
    assert.deepEqual(await axe(page), []);
  });
}

test('what cannot be loaded says so, and is tried again', async () => {
  const view = await open({ key: 'reader', path: '/#export/replay' });
  view.expect(/status of 503/);
  const { page } = view;
  await page.route('**/v1/quarantined_deliveries?**', (route) => route.fulfill({
    status: 503, contentType: 'application/problem+json',
    body: JSON.stringify({ code: 'SYS-001', detail: 'the database is away' }),
  }));
  await page.getByRole('link', { name: 'Quarantine' }).click();
  await page.getByText('SYS-001: the database is away').waitFor();
  await page.unroute('**/v1/quarantined_deliveries?**');
  await page.getByRole('button', { name: 'Try again' }).click();
  await rows(page).first().waitFor();
});

/** Lifts the lockdown, as two admins do. */
async function lift() {
  const { findings } = (await api('/v1/lockdown')).body;
  const body = { reason: 'looked at', findings: findings.map(({ finding_id: id }) => id) };
  const { request } = (await api('/v1/lockdown/lift', { method: 'POST', body })).body;
  const confirmation = { method: 'POST', key: 'admin2', body: { confirm: request } };
  assert.equal((await api('/v1/lockdown/lift', confirmation)).status, 200);
}

test('what came in a lockdown waits for its end', async () => {
  const sql = 'UPDATE public.signals SET price = price + 1 WHERE id = 2';
  await harness('tamper_and_rearm', { table: 'signals', sql });
  assert.equal((await api('/v1/integrity/checks', { method: 'POST' })).body.verdict, 'tampered');
  const { quarantine_id: id } = await new Sender(service).deliver(signal('in-lockdown'), [423]);
  const { page } = await open({ key: 'admin', path: `${HERE}?delivery=${id}` });
  await detail(page).getByText('Not while the ledger is locked down.').waitFor();
  assert.ok(await detail(page).getByRole('button', { name: 'Release…' }).isDisabled());
  await page.getByText('Nothing can be released while the ledger is locked down.').waitFor();
  await lift();
  await eventually(() => detail(page).getByRole('button', { name: 'Release…' }).isEnabled());
  await detail(page).getByRole('button', { name: 'Release…' }).click();
  await dialog(page).getByText('so it should become a signal now').waitFor();
  await dialog(page).getByRole('button', { name: 'Release', exact: true }).click();
  await detail(page).getByText('Recorded as signal').waitFor();
  const { body: { items: [row] } } = await api('/v1/signals?signal_id=in-lockdown');
  await detail(page).getByRole('link', { name: `signal ${row.id}` }).waitFor();
});
