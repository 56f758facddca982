// What the browser itself verifies, and that it sees whatever was changed on the way to it.
import assert from 'node:assert/strict';
import { generateKeyPairSync, createHash } from 'node:crypto';

import { fill } from '../lib/fill.mjs';
import { api, axe, eventually, harness, open, service, shot, test } from '../lib/spec.mjs';

const key = 'reader';
const STEPS = ['shown', 'hash', 'link', 'inclusion', 'checkpoint', 'signature'];

let rows = null;
const filled = () => rows ??= fill(service, { rows: 160 }).then(async (ids) => {
  // Only what a checkpoint covers can be proved.
  await eventually(async () => (await api('/v1/integrity')).body.checkpoint?.leaves_behind === 0);
  return ids;
});

const at = (chain, id) => `/#ledger/${chain}?row=${id}`;
const button = (page, name) => page.getByRole('button', { name, exact: true });
const outcome = (page) => page.locator('[data-outcome]');

/** The steps' outcomes by name, once there is one of all. */
async function verified(page) {
  await outcome(page).waitFor();
  const steps = await page.locator('[data-step]').evaluateAll((items) => items.map(
    ({ dataset, innerText }) => ({ name: dataset.step, ok: dataset.ok, told: innerText }),
  ));
  const ok = await outcome(page).getAttribute('data-outcome');
  return { ok, steps: Object.fromEntries(steps.map((step) => [step.name, step])) };
}

const outcomes = (steps) => Object.fromEntries(
  Object.values(steps).map(({ name, ok }) => [name, ok]),
);
const failing = (steps) => Object.values(steps)
  .filter(({ ok }) => ok === 'false').map(({ name }) => name);

async function verify(page) {
  await button(page, 'Verify in this browser').click();
  return verified(page);
}

/** Opens a row and verifies it. */
async function verifyRow(chain, id, options = {}) {
  const view = await open({ key, path: at(chain, id), ...options });
  return { ...view, view, page: view.page, ...(await verify(view.page)) };
}

test('a row of each chain is verified in every step', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: at('signals', ids.story.id) });
  const { chains } = (await api('/v1/chains')).body;
  for (const { name: chain } of chains) {
    const { items } = (await api(`/v1/${chain}?limit=1`)).body;
    // The first of a chain, which links to no row, and the last.
    for (const id of [1, items[0].id]) {
      await page.goto(at(chain, id));
      await page.getByRole('heading', { name: `Row ${id} of ${chain}` }).waitFor();
      await page.locator('.verifying').waitFor();
      const { ok, steps } = await verify(page);
      const all = Object.fromEntries(STEPS.map((name) => [name, 'true']));
      assert.deepEqual(outcomes(steps), all, `${chain} ${id}`);
      assert.equal(ok, 'true');
    }
  }
});

test('what was compared is shown whole, and whose key it was', async () => {
  const ids = await filled();
  const { page, steps } = await verifyRow('signals', ids.hostile.id);
  const { row } = (await api(`/v1/signals/${ids.hostile.id}`)).body;
  const { checkpoint } = (await api('/v1/integrity')).body;
  assert.ok(steps.hash.told.includes(row.row_hash));
  assert.ok(steps.link.told.includes(row.prev_hash));
  assert.ok(steps.inclusion.told.includes(checkpoint.root_hash));
  assert.ok(steps.signature.told.includes(checkpoint.origin));
  await page.getByText('a key this browser sees for the first time: compare it').waitFor();
  await shot(page, 'row');
  await verify(page);
  const today = new Date().toISOString().slice(0, 10);
  await page.getByText(`Signed by the key this browser saw first on ${today}`).waitFor();
  // It is known from then on, also when the page is loaded again.
  await page.reload();
  await page.getByText(`Trusted verifier key: seen first on ${today}`).waitFor();
  await verify(page);
  await page.getByText(`Signed by the key this browser saw first on ${today}`).waitFor();

  await page.getByText('Trusted verifier key: seen first').click();
  await page.getByLabel('Verifier key that you got elsewhere').fill(checkpoint.vkeys.join('\n'));
  await button(page, 'Trust this key').click();
  await page.getByText('Signed by the key you entered.').waitFor();
  assert.deepEqual(await axe(page), []);
});

/** A verifier key of this name, of which nobody knows the signing half. */
function anotherKey(name) {
  const { publicKey } = generateKeyPairSync('ed25519');
  const raw = publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
  const bytes = Buffer.concat([Buffer.from([1]), raw]);
  const id = createHash('sha256').update(`${name}\n`).update(bytes).digest('hex').slice(0, 8);
  return `${name}+${id}+${bytes.toString('base64')}`;
}

const enter = async (page, text) => {
  const field = page.getByLabel('Verifier key that you got elsewhere');
  if (!await field.isVisible()) await page.getByText(/^Trusted verifier key:/).click();
  await field.fill(text);
  await button(page, 'Trust this key').click();
};

test('another key than the trusted one is red, and says what to do', async () => {
  const ids = await filled();
  const { page } = await verifyRow('signals', ids.story.id);
  const { checkpoint } = (await api('/v1/integrity')).body;
  const signatureIs = async (ok, told) => {
    const step = page.locator(`[data-step=signature][data-ok=${ok}]`);
    await step.waitFor();
    assert.match(await step.innerText(), told);
  };
  await enter(page, 'no key');
  await page.getByText('is no verifier key: name+id+key').waitFor();
  await enter(page, anotherKey(checkpoint.origin));
  await signatureIs(false, /no trusted verifier key signed the note[\s\S]*both sign for a while/);
  assert.deepEqual(await axe(page), []);
  // It lasts, and no other row is believed either.
  await page.goto(at('ai_debates', 1));
  await page.getByRole('heading', { name: 'Row 1 of ai_debates' }).waitFor();
  await verify(page);
  await signatureIs(false, /no trusted verifier key/);
  assert.equal(await outcome(page).getAttribute('data-outcome'), 'false');

  await enter(page, checkpoint.vkeys[0]);
  await signatureIs(true, /signed it/);
  await page.getByText('Signed by the key you entered.').waitFor();
  // While keys are replaced, both are trusted.
  await enter(page, `${anotherKey(checkpoint.origin)}\n${checkpoint.vkeys[0]}`);
  await signatureIs(true, /signed it/);

  // A key of another log vouches for none of this one.
  await button(page, 'Forget all keys').click();
  await outcome(page).waitFor({ state: 'detached' });
  await enter(page, anotherKey('log.example/other'));
  await verify(page);
  await signatureIs(false, /no trusted verifier key[\s\S]*keys of another log alone/);
  await button(page, 'Forget all keys').click();
  await verify(page);
  await page.getByText('a key this browser sees for the first time').waitFor();
});

test('each column that is changed in the browser turns the row red', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: at('signals', ids.hostile.id) });
  await page.getByText('Try it: change one character').click();
  const choice = page.getByLabel('Column');
  const { row } = (await api(`/v1/signals/${ids.hostile.id}`)).body;
  const columns = await choice.locator('option').allInnerTexts();
  assert.deepEqual(columns.slice(1), Object.keys(row));
  const changes = [['signals', ids.hostile.id, Object.keys(row)]];
  for (const chain of ['quarantined_deliveries', 'order_events', 'signal_audit_ledger']) {
    const { items } = (await api(`/v1/${chain}?limit=1`)).body;
    changes.push([chain, items[0].id, Object.keys(items[0])]);
  }
  for (const [chain, id, names] of changes) {
    await page.goto(at(chain, id));
    await page.getByRole('heading', { name: `Row ${id} of ${chain}` }).waitFor();
    if (!await choice.isVisible()) await page.getByText('Try it: change one character').click();
    for (const name of names) {
      await choice.selectOption(name);
      await button(page, 'Change and verify').click();
      await page.locator('.notice', { hasText: 'Changed in this browser only' })
        .filter({ hasText: new RegExp(`^[\\s\\S]*${name} in the copy`) }).waitFor();
      const { ok, steps } = await verified(page);
      assert.equal(ok, 'false', `${chain} ${name}`);
      // Where a row stands in the log is no column; the proof knows.
      const isHashed = name !== 'leaf_index';
      assert.equal(steps.hash.ok, String(!isHashed), `${chain} ${name}: ${steps.hash.told}`);
      if (!isHashed) assert.deepEqual(failing(steps), ['inclusion']);
      await page.getByText('The changed copy is not what the ledger recorded.').waitFor();
    }
    await button(page, 'Reset').click();
    await page.locator('[data-outcome=true]').waitFor();
    assert.equal(await page.getByText('Changed in this browser only').count(), 0);
  }
});

/** Changes answers of the service on their way. */
const changing = (page, url, change) => page.route(url, async (route) => {
  const answer = await route.fetch();
  const isJson = answer.headers()['content-type'] === 'application/json';
  await route.fulfill({ response: answer, ...(isJson && { json: change(await answer.json()) }) });
});

test('a proof that was changed on the way is red where it was changed', async () => {
  const ids = await filled();
  const url = '**/v1/proofs/signals/*';
  const flip = (base64) => (base64.startsWith('A') ? 'B' : 'A') + base64.slice(1);
  const note = (proof, change) => ({ ...proof, checkpoint: change(proof.checkpoint) });
  const changes = {
    inclusion: [
      (proof) => ({ ...proof, hashes: [flip(proof.hashes[0]), ...proof.hashes.slice(1)] }),
      (proof) => ({ ...proof, hashes: proof.hashes.slice(1) }),
      (proof) => ({ ...proof, leaf_index: proof.leaf_index + 1 }),
      (proof) => ({ ...proof, hashes: 'none' }),
    ],
    checkpoint: [
      (proof) => ({ ...proof, root_hash: flip(proof.root_hash) }),
      (proof) => ({ ...proof, tree_size: proof.tree_size + 1 }),
      (proof) => note(proof, () => 'no checkpoint at all'),
    ],
    signature: [
      // One character in the middle of the signature.
      (proof) => note(proof, (text) => text.replace(/(.{20})(.)(.{20}\n)$/,
        (_, before, char, after) => before + (char === 'A' ? 'B' : 'A') + after)),
      // The signed text itself.
      (proof) => note(proof, (text) => text.replace(/^(.*\n)(\d+)/, '$19$2')),
    ],
  };
  const { page } = await open({ key, path: at('signals', ids.story.id) });
  await page.locator('.proof dl').waitFor();
  let change = null;
  await changing(page, url, (proof) => change(proof));
  for (const [name, all] of Object.entries(changes)) {
    for (const one of all) {
      change = one;
      const { ok, steps } = await verify(page);
      assert.equal(ok, 'false');
      assert.ok(failing(steps).includes(name), `${one}: ${failing(steps)}`);
      // No key is remembered of what did not hold.
      assert.equal(await page.evaluate(() => localStorage.getItem('ledger.vkeys')), null);
    }
  }
});

test('a row that was changed on the way is red, also where it fits itself', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: at('signals', ids.story.id) });
  await page.locator('.proof dl').waitFor();
  await changing(page, `**/v1/signals/${ids.story.id}`, (body) => ({
    ...body, row: { ...body.row, price: '1.0000000000' },
  }));
  const { steps } = await verify(page);
  assert.deepEqual(failing(steps).slice(0, 2), ['shown', 'hash']);
  assert.match(steps.shown.told, /"price" of the row is "1\.0000000000"/);
});

test('a row before that was changed on the way breaks the link', async () => {
  const ids = await filled();
  const { page } = await open({ key, path: at('signals', ids.rejected.id) });
  await changing(page, `**/v1/signals/${ids.rejected.id - 1}`, (body) => ({
    ...body, row: { ...body.row, side: 'SELL' },
  }));
  const { ok, steps } = await verify(page);
  assert.equal(ok, 'false');
  assert.deepEqual(failing(steps), ['link']);
});

test('a row that no checkpoint covers is neither green nor red', async () => {
  const ids = await filled();
  const { page, view } = await open({ key, path: at('signals', ids.story.id) }).then((one) => ({
    page: one.page, view: one,
  }));
  view.expect(/status of 409/);
  const refusal = {
    status: 409, code: 'PRF-001', title: 'Not covered', detail: 'no checkpoint covers it yet',
  };
  await page.route('**/v1/proofs/**', (route) => route.fulfill({
    status: 409, contentType: 'application/problem+json', body: JSON.stringify(refusal),
    headers: { 'Retry-After': '1' },
  }));
  await page.goto(at('signals', ids.flagged.id));
  await page.getByRole('heading', { name: `Row ${ids.flagged.id} of signals` }).waitFor();
  await page.getByText('Not proved yet: no checkpoint covers this row.').waitFor();
  const { ok, steps } = await verify(page);
  assert.equal(ok, 'null');
  const without = { inclusion: 'null', checkpoint: 'null', signature: 'null' };
  assert.deepEqual(outcomes(steps), { shown: 'true', hash: 'true', link: 'true', ...without });
  await page.getByText('verify again in a moment').waitFor();
  assert.deepEqual(await axe(page), []);
  // Its proof comes by itself once there is one.
  await page.unroute('**/v1/proofs/**');
  await page.locator('.proof dl').waitFor();
  assert.equal((await verify(page)).ok, 'true');
});

test('the keyboard alone opens, verifies and closes', async () => {
  await filled();
  for (const theme of ['light', 'dark']) {
    const { page } = await open({ key, theme, path: '/#ledger/signals' });
    await page.locator('.rows[aria-busy=false]').waitFor();
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await page.locator('.verifying').waitFor();
    await page.keyboard.press('v');
    assert.equal((await verified(page)).ok, 'true');
    assert.deepEqual(await axe(page), []);
    await page.keyboard.press('Escape');
    await eventually(() => page.evaluate(() => document.activeElement.matches('a.open')));
    assert.equal(await page.locator('.detail').count(), 0);
  }
});

const checked = (page) => page.locator('.list .notice');

test('the rows shown are verified together', async () => {
  await filled();
  const { page } = await open({ key, path: '/#ledger/ai_debates' });
  await page.locator('.rows[aria-busy=false]').waitFor();
  await button(page, 'Verify the rows shown').click();
  await checked(page).filter({ hasText: 'each links to the one before' }).waitFor();
  await checked(page).filter({ hasText: 'The newest is in the signed log: all of them' }).waitFor();
  const shown = await page.locator('.list tbody tr').count();
  assert.equal(await page.locator('.list td .badge.ok', { hasText: 'hash, link' }).count(), shown);
  assert.deepEqual(await axe(page), []);
  // In a filtered list, neighbours are not there.
  await page.goto('/#ledger/ai_debates?model_name=deepseek-r1');
  await page.getByText('symbol').waitFor({ state: 'detached' });
  await page.locator('.rows[aria-busy=false]').waitFor();
  await page.getByText(/rows meet the filters/).waitFor();
  await button(page, 'Verify the rows shown').click();
  await checked(page).filter({ hasText: /hash to their row_hash; \d+ link/ }).waitFor();
});

// From here on the ledger is not what it was.
test('what was changed in the database is seen by the browser itself', async () => {
  const ids = await filled();
  const { id } = ids.flagged;
  // Nobody rehashes: the row itself shows it.
  const sql = `UPDATE signals SET price = price + 1 WHERE id = ${id}`;
  await harness('tamper_and_rearm', { table: 'signals', sql });
  const { page, ok, steps } = await verifyRow('signals', id);
  assert.equal(ok, 'false');
  assert.ok(failing(steps).includes('hash'));
  assert.match(steps.hash.told, /the row's columns hash to [0-9a-f]{64}, but row_hash says/);
  await page.getByText('This row is not what the ledger recorded').waitFor();
  assert.deepEqual(await axe(page), []);
  await shot(page, 'tampered');

  // The row behind it is as it was, but no longer linked to anything.
  await page.goto(at('signals', id + 1));
  await page.getByRole('heading', { name: `Row ${id + 1} of signals` }).waitFor();
  await page.locator('.verifying').waitFor();
  const behind = await verify(page);
  assert.deepEqual(failing(behind.steps), ['link']);

  // And in a list.
  await page.goto('/#ledger/signals?order=asc');
  await page.locator('.list tbody tr').nth(id).waitFor();
  await button(page, 'Verify the rows shown').click();
  await checked(page).filter({ hasText: '2 of' }).waitFor();
  const bad = page.locator('.list tbody tr', { hasText: 'does not hold' });
  const badIds = await bad.locator('a.open').allInnerTexts();
  assert.deepEqual(badIds.map(Number), [id, id + 1]);
  await checked(page).getByRole('link', { name: `Row ${id}` }).click();
  await page.getByRole('heading', { name: `Row ${id} of signals` }).waitFor();
});

test('a row that was changed and hashed again is not in the signed log', async () => {
  await filled();
  const [{ id }] = (await api('/v1/ai_debates?limit=1')).body.items;
  // By somebody who knows the format: the last row of its chain, so that every link holds, too.
  const columns = 'id, correlation_id, model_name, reasoning_json_text, confidence_score, '
    + 'elapsed_ms, is_timeout, recorded_by, created_at';
  const sql = `UPDATE ai_debates SET model_name = 'another-model' WHERE id = ${id};
    UPDATE ai_debates SET row_hash = ai_debates_hash(prev_hash, ${columns}) WHERE id = ${id}`;
  await harness('tamper_and_rearm', { table: 'ai_debates', sql });
  const { view, page, ok, steps } = await verifyRow('ai_debates', id);
  assert.equal(ok, 'false');
  assert.deepEqual(failing(steps), ['inclusion']);
  assert.match(steps.inclusion.told, /the proof's row_hash is|the service gives no proof/);
  await page.locator('.detail').getByText('another-model').waitFor();

  // The log's own list, too: what was signed is still another one.
  const log = `UPDATE ledger_log SET row_hash = (SELECT row_hash FROM ai_debates WHERE id = ${id})
    WHERE chain = 'ai_debates' AND id = ${id}`;
  await harness('tamper', { sql: log });
  const again = await verify(page);
  assert.equal(again.ok, 'false');
  assert.deepEqual(failing(again.steps), ['inclusion']);
  if (/the service gives no proof/.test(again.steps.inclusion.told)) view.expect(/status of 500/);
});
