// Measures the dashboard in a real browser, for `ledger-bench dashboard`, which starts the service:
//
//     node measure.mjs tabs RUNS        each tab, opened anew by a browser that knows nothing yet
//     node measure.mjs feed SECONDS     how evenly the Signal Feed is drawn; begins at a line on stdin
//
// LEDGER_URL, LEDGER_KEY and CHROMIUM say where, with which key, and with which browser. Prints JSON.
import { createInterface } from 'node:readline/promises';
import { chromium } from 'playwright-core';
import { LAUNCH } from './lib/chromium.mjs';

const { LEDGER_URL: url, LEDGER_KEY: key } = process.env;

/** Each tab, and the first data that it shows: its content counts from their answer. */
const TABS = [
  { tab: 'feed', hash: '#feed', data: /\/v1\/(signals|signal_audit_ledger)\?limit=50$/ },
  { tab: 'ledger', hash: '#ledger/signal_audit_ledger', data: /\/v1\/signal_audit_ledger\?/ },
  { tab: 'integrity', hash: '#integrity', data: /\/v1\/integrity$/ },
  { tab: 'export', hash: '#export/signal_audit_ledger', data: /\/v1\/(chains|key)$/ },
];

async function open(browser, hash) {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  const page = await context.newPage();
  await page.addInitScript((kept) => sessionStorage.setItem('ledger.key', kept), key);
  await page.goto(`${url}/${hash}`);
  return page;
}

/** Times in milliseconds: the data's request to its answer, and its answer to the first content. */
async function openOnce(browser, { tab, hash, data }) {
  const page = await open(browser, hash);
  const mark = `content:${tab}`;
  await page.waitForFunction((name) => performance.getEntriesByName(name).length > 0, mark);
  const { content, requests } = await page.evaluate((name) => ({
    content: performance.getEntriesByName(name)[0].startTime,
    requests: performance.getEntriesByType('resource').map((entry) => ({
      url: entry.name, sent: entry.requestStart, answered: entry.responseEnd,
    })),
  }), mark);
  await page.context().close();
  const first = requests.filter(({ url: asked, answered }) => data.test(asked) && answered > 0)
    .sort((one, other) => one.answered - other.answered)[0];
  if (!first || first.answered > content) throw new Error(`${tab} showed what it had not been told`);
  return { answer: first.answered - first.sent, content: content - first.answered, total: content };
}

async function tabs(browser, runs) {
  const measured = {};
  for (let run = -1; run < runs; run += 1) {
    for (const tab of TABS) {
      const times = await openOnce(browser, tab);
      // The first of each only brings what the others read into memory.
      if (run >= 0) (measured[tab.tab] ??= []).push(times);
    }
  }
  return measured;
}

/** Intervals between frames in milliseconds, and tasks of more than 50 ms, for so long. */
function frames(page, seconds) {
  return page.evaluate((ms) => new Promise((resolve) => {
    const intervals = [];
    const longTasks = [];
    const observer = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) longTasks.push(duration);
    });
    observer.observe({ type: 'longtask' });
    const begun = performance.now();
    let last = begun;
    requestAnimationFrame(function next(now) {
      intervals.push(now - last);
      last = now;
      if (now - begun < ms) requestAnimationFrame(next);
      else {
        observer.disconnect();
        resolve({ intervals, longTasks });
      }
    });
  }), seconds * 1000);
}

async function feed(browser, seconds) {
  const page = await open(browser, '#feed');
  await page.waitForFunction(() => performance.getEntriesByName('content:feed').length > 0);
  const quiet = await frames(page, seconds);
  const lines = createInterface({ input: process.stdin });
  console.log('ready');
  await lines.question('');
  lines.close();
  const busy = await frames(page, seconds);
  const says = await page.locator('#feed-sampled').innerText();
  return { quiet, busy, says };
}

const [what, number] = process.argv.slice(2);
const browser = await chromium.launch(LAUNCH);
const measured = await { tabs, feed }[what](browser, Number(number));
await browser.close();
console.log(JSON.stringify(measured));
