// What every other spec relies on: that nothing which goes wrong on a page stays unseen.
import assert from 'node:assert/strict';

import { api, axe, eventually, harness, open, service, test } from '../lib/spec.mjs';

/** A file that is shown as text: under the page's policy, and loaded at once. */
const PLAIN = '/ui/theme.js';

/** Has this happen on a page, and returns what is told of it when the page is closed. */
async function closingAfter(cause, { argument, path = PLAIN } = {}) {
  const view = await open({ path });
  await view.page.evaluate(cause, argument).catch(() => {});
  // What is told by other processes of the browser comes a moment later.
  await eventually(() => view.problems.length > 0, { within: 2_000 }).catch(() => {});
  const error = await view.close().then(() => null, (thrown) => thrown);
  return String(error?.message);
}

test('a page on which nothing happens closes without a word', async () => {
  const view = await open();
  await view.close();
  assert.deepEqual(view.problems, []);
});

test('what goes wrong on a page fails the test that opened it', async () => {
  assert.match(await closingAfter(() => console.error('wrong')), /console error: wrong/);
  assert.match(await closingAfter(() => console.warn('odd')), /console warning: odd/);
  const thrown = await closingAfter(() => void setTimeout(() => { throw new Error('thrown'); }));
  assert.match(thrown, /uncaught: Error: thrown/);
  assert.match(await closingAfter(() => void Promise.reject(new Error('lost'))), /uncaught.*lost/);
  assert.match(await closingAfter(() => void setTimeout(() => alert('hello'))), /dialog: hello/);
  assert.match(await closingAfter(() => fetch('/ui/nothing.js')), /status of 404/);
  assert.match(await closingAfter(() => { globalThis.pwned = 1; }), /a text of the ledger was run/);
});

test('what the page may not do is refused and told', async () => {
  const elsewhere = await closingAfter(() => fetch('https://attacker.invalid/'));
  assert.match(elsewhere, /Content Security Policy/);
  const markup = await closingAfter(() => { document.body.innerHTML = '<b>bold</b>'; });
  assert.match(markup, /TrustedHTML/);
  const style = await closingAfter(() => document.body.setAttribute('style', 'color: red'),
    { path: '/' });
  assert.match(style, /Content Security Policy/);
  const left = await closingAfter(() => { location.href = 'https://attacker.invalid/'; });
  assert.match(left, /elsewhere: https:\/\/attacker.invalid/);
  const told = await closingAfter((key) => fetch(`/?key=${key}`),
    { argument: service.keys.reader });
  assert.match(told, /key of reader in an address/);
});

test('what is expected must happen', async () => {
  const view = await open({ path: PLAIN });
  view.expect(/status of 401/);
  await view.page.evaluate(() => fetch('/v1/integrity'));
  await eventually(() => view.problems.length === 1);
  await view.close();
  const quiet = await open({ path: PLAIN });
  quiet.expect(/status of 401/);
  await assert.rejects(quiet.close(), /what did not happen/);
});

test('what keeps people out is found', async () => {
  const { page } = await open();
  assert.deepEqual(await axe(page), []);
  await page.evaluate(() => document.body.append(document.createElement('button')));
  assert.deepEqual((await axe(page)).map(({ id }) => id), ['button-name']);
});

test('the harness does what HTTP cannot', async () => {
  const events = 'SELECT count(*) FROM security_events';
  assert.equal(await harness('psql', { sql: `${events} WHERE event_type = 'KEY_CREATED'` }), '5');
  assert.equal(await harness('psql', { sql: 'SELECT NULL' }), null);
  await assert.rejects(harness('psql', { sql: 'SELECT nonsense' }), /nonsense/);
  await assert.rejects(harness('sing'), /sing/);

  await harness('stop');
  await assert.rejects(fetch(service.url));
  await harness('start');
  assert.equal((await api('/v1/integrity')).status, 200);
  await harness('restart');
  assert.equal((await api('/v1/integrity')).body.locked, false);

  const sql = "UPDATE security_events SET actor = 'nobody' WHERE id = 2";
  await harness('tamper_and_rearm', { table: 'security_events', sql });
  const { body } = await api('/v1/integrity/checks', { method: 'POST' });
  assert.equal(body.verdict, 'tampered');
  assert.equal((await api('/v1/integrity')).body.locked, true);
  await harness('tamper', { sql: 'DELETE FROM security_events WHERE id = 3' });
});
