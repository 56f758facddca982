// What every spec stands on: the service that the harness has started, a real Chromium on it, and
// an eye on everything that a page must not do.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import nodeTest from 'node:test';

import { chromium } from 'playwright-core';

import { LAUNCH } from './chromium.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
/** How long anything may take that a page does at once. */
const SOON_MS = 15_000;

function required(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: specs are run by tests/dashboard.rs`);
  return value;
}

/** The service: `url`, the webhook's `secret`, and `keys` by the name of who holds them. */
export const service = {
  url: required('LEDGER_URL'),
  secret: required('LEDGER_WEBHOOK_SECRET'),
  keys: JSON.parse(required('LEDGER_KEYS')),
};

let running = null;
const views = new Set();
/** Holders of keys that are told of alarms. */
const READERS = ['admin', 'admin2', 'reader', 'exporter'];
let unfinished = 0;

/** One browser for a spec, from the first page that is opened to its last test's end. */
function browser() {
  running ??= chromium.launch(LAUNCH);
  return running;
}

/** A test of node:test, which closes what it has opened, and so looks at what went wrong there. */
export function test(name, run) {
  unfinished += 1;
  return nodeTest(name, async (context) => {
    try {
      await run(context);
      for (const view of [...views]) await view.close();
    } catch (error) {
      await leave(name);
      throw error;
    } finally {
      unfinished -= 1;
      if (unfinished === 0 && running) {
        const last = running;
        running = null;
        await (await last).close();
      }
    }
  });
}

/** Closes the pages of a test that failed, and tells what they looked like. */
async function leave(name) {
  for (const view of [...views]) {
    console.log(`open in the failed test: ${view.page?.url()}`);
    for (const problem of view.problems) console.log(`  ${problem}`);
    await shot(view.page, `failed ${name}`).catch(() => {});
    views.delete(view);
    await view.context.close().catch(() => {});
  }
}

/**
 * Opens the dashboard in a window of its own: no cookies, storage or cache of any other.
 *
 * `theme` is what the system prefers; `key` signs in: a name in `service.keys`, or a key. Anything
 * else goes to Playwright's context (`locale`, `permissions`, …).
 */
export async function open({
  theme = 'light', viewport = { width: 1280, height: 800 }, key = null, path = '/', ...others
} = {}) {
  const context = await (await browser()).newContext({
    viewport,
    baseURL: service.url,
    colorScheme: theme,
    locale: 'en-GB',
    timezoneId: 'UTC',
    reducedMotion: 'reduce',
    serviceWorkers: 'block',
    ...others,
  });
  context.setDefaultTimeout(SOON_MS);
  const view = new View(context);
  views.add(view);
  await context.addInitScript(tellOfHostileTexts);
  if (key !== null) await signInAtStart(context, service.keys[key] ?? key);
  view.page = await context.newPage();
  // An alarm that comes up moves what is below it, from under a click that is under way.
  const alarms = READERS.includes(key) && view.page.waitForResponse('**/v1/kill_switch_events?*');
  await view.page.goto(path);
  await alarms;
  return view;
}

/** What every script does that stands in a hostile text of hostile.mjs: it sets this. */
function tellOfHostileTexts() {
  const set = () => console.error('a text of the ledger was run');
  Object.defineProperty(globalThis, 'pwned', { set });
}

/** As one who signed in before and loads the page again; once, so that a sign-out lasts. */
function signInAtStart(context, key) {
  const signIn = ({ url, text }) => {
    // A window keeps its name when another page is loaded.
    if (location.origin !== url || globalThis.name === 'signed in') return;
    globalThis.name = 'signed in';
    sessionStorage.setItem('ledger.key', text);
  };
  return context.addInitScript(signIn, { url: service.url, text: key });
}

/** A window: its Playwright `page` and `context`, and what happened there. */
class View {
  page = null;
  problems = [];
  #expected = [];

  constructor(context) {
    this.context = context;
    const told = (problem) => this.problems.push(problem);
    // What breaks the page's policy (CSP) stands there, too.
    context.on('console', (message) => {
      const type = message.type();
      if (type !== 'error' && type !== 'warning') return;
      told(`console ${type}: ${message.text()} (${message.location().url})`);
    });
    context.on('weberror', (event) => {
      // A module that cannot be linked has no stack.
      const error = event.error();
      told(`uncaught: ${error.stack || error.message || error}`);
    });
    context.on('dialog', (dialog) => {
      told(`dialog: ${dialog.message()}`);
      dialog.dismiss().catch(() => {});
    });
    context.on('request', (request) => this.#look(request.url()));
    context.on('requestfailed', (request) => {
      const { errorText } = request.failure();
      // The page itself called it off: a feed that nobody looks at, or what a page that was left
      // was still loading.
      if (errorText === 'net::ERR_ABORTED') return;
      told(`failed: ${request.method()} ${request.url()}: ${errorText}`);
    });
    context.on('page', (page) => {
      page.on('crash', () => told('the page crashed'));
      page.on('websocket', (socket) => this.#look(socket.url()));
    });
  }

  #look(url) {
    const { origin, protocol } = new URL(url);
    const isLocal = ['data:', 'blob:'].includes(protocol) || origin === service.url;
    if (!isLocal) this.problems.push(`elsewhere: ${url}`);
    // An address is kept in histories and logs.
    const named = Object.keys(service.keys).find((name) => url.includes(service.keys[name]));
    if (named) this.problems.push(`key of ${named} in an address: ${new URL(url).pathname}`);
  }

  /**
   * That this is going to happen, once or more often: Chromium tells of every 401 in the console,
   * for example. That it does not happen is an error, too.
   */
  expect(...patterns) {
    this.#expected.push(...patterns);
  }

  /** Closes the window; nothing may have happened there but what was expected. */
  async close() {
    if (!views.delete(this)) return;
    await this.context.close();
    const isExpected = (problem) => this.#expected.some((pattern) => pattern.test(problem));
    const others = this.problems.filter((problem) => !isExpected(problem));
    assert.ok(others.length === 0, `what happened on the page: ${others.join('\n')}`);
    const happened = (pattern) => this.problems.some((problem) => pattern.test(problem));
    const missed = this.#expected.filter((pattern) => !happened(pattern));
    assert.ok(missed.length === 0, `what did not happen on the page: ${missed.join(', ')}`);
  }
}

/** What Chromium tells of a service that is not there, or goes away. */
export const AWAY = new RegExp('ERR_(CONNECTION_\\w+|INCOMPLETE_CHUNKED_ENCODING|EMPTY_RESPONSE'
  + '|NETWORK\\w*|SOCKET_NOT_CONNECTED)');

let answers = null;
let lastAsked = Promise.resolve();

/**
 * Asks the harness for what cannot be done over HTTP:
 *
 * - `tamper` {sql}: as a superuser, while no guard holds
 * - `tamper_and_rearm` {table, sql}: and every guard is back afterwards
 * - `psql` {sql}: as a superuser; returns the last row's first column as text, or null
 * - `stop`, `start`, `restart` the service, on the same address; `restart` kills it
 */
export function harness(what, args = {}) {
  const asked = lastAsked.then(() => ask({ do: what, ...args }));
  lastAsked = asked.catch(() => {});
  return asked;
}

async function ask(request) {
  answers ??= createInterface({ input: process.stdin });
  process.stdin.ref();
  try {
    const answer = new Promise((resolve, reject) => {
      answers.once('line', resolve);
      answers.once('close', () => reject(new Error('there is no harness')));
    });
    process.stdout.write(`@harness ${JSON.stringify(request)}\n`);
    const { error, result = null } = JSON.parse(await answer);
    if (error) throw new Error(`${request.do}: ${error}`);
    return result;
  } finally {
    answers.removeAllListeners('close');
    // A spec that waits for nothing else has come to its end.
    process.stdin.unref();
  }
}

/** Asks the API itself, with the key of `key`: the status and the body. */
export async function api(path, { key = 'admin', method = 'GET', body, headers = {} } = {}) {
  const all = { Authorization: `Bearer ${service.keys[key]}`, ...headers };
  if (body !== undefined) all['Content-Type'] ??= 'application/json';
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
  const answer = await fetch(service.url + path, { method, body: text, headers: all });
  return { status: answer.status, headers: answer.headers, body: await answer.json() };
}

/** What axe finds that keeps people out: each rule, and the elements that break it. */
export async function axe(page, options = {}) {
  // Told over the debugger's line, the script is none of the page's policy.
  await page.evaluate(AXE);
  const found = await page.evaluate(async (given) => {
    const { violations } = await globalThis.axe.run({ resultTypes: ['violations'], ...given });
    return violations;
  }, options);
  const serious = found.filter(({ impact }) => ['serious', 'critical'].includes(impact));
  return serious.map(({ id, impact, help, nodes }) => {
    const where = nodes.map(({ target, failureSummary }) => `${target}: ${failureSummary}`);
    return { id, impact, help, where };
  });
}

/** Waits until it throws nothing and is not false, and returns what it then is. */
export async function eventually(condition, { within = SOON_MS } = {}) {
  const limit = Date.now() + within;
  for (;;) {
    let error = new Error(`not within ${within} ms: ${condition}`);
    try {
      const value = await condition();
      if (value !== false) return value;
    } catch (thrown) {
      error = thrown;
    }
    if (Date.now() >= limit) throw error;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Keeps a picture of the page for people to look at, where `LEDGER_SHOTS` names a folder. */
export async function shot(page, name, options = {}) {
  const folder = process.env.LEDGER_SHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  const file = `${basename(process.argv[1], '.mjs')} ${name}.png`.replace(/[^\w.-]+/g, '-');
  await page.screenshot({ path: join(folder, file), ...options });
}
