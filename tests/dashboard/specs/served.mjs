// The page's files as the service answers with them, to the browser and to whoever asks by hand.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { request } from 'node:http';
import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

import { open, service, test } from '../lib/spec.mjs';

const FOLDER = fileURLToPath(new URL('../../../src/ui/', import.meta.url));
const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
};
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
];
const HEADERS = {
  'content-security-policy': POLICY.join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cache-control': 'no-cache',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
};

/** Sends the path as it stands here, and leaves the body as it comes. */
function ask(path, { method = 'GET', headers = {} } = {}) {
  const { hostname, port } = new URL(service.url);
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, path, method, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('error', reject);
      answer.on('end', () => {
        const { statusCode: status, headers: told } = answer;
        resolve({ status, headers: told, body: Buffer.concat(parts) });
      });
    });
    asked.on('error', reject);
    asked.end();
  });
}

function assertHeaders(headers, path) {
  for (const [name, value] of Object.entries(HEADERS)) {
    assert.equal(headers[name], value, `${name} of ${path}`);
  }
}

/** Every file of the dashboard, as it is asked for. */
function files() {
  const found = [];
  const walk = (folder) => {
    for (const entry of readdirSync(FOLDER + folder, { withFileTypes: true })) {
      if (entry.isDirectory()) walk(`${folder}${entry.name}/`);
      else found.push(`${folder}${entry.name}`);
    }
  };
  walk('');
  return found;
}

test('every file is answered as it is, with its type and what the page may do', async () => {
  for (const path of ['/', ...files().map((file) => `/ui/${file}`)]) {
    const file = path === '/' ? 'index.html' : path.slice('/ui/'.length);
    const { status, headers, body } = await ask(path);
    assert.equal(status, 200, path);
    assert.ok(body.equals(readFileSync(FOLDER + file)), `${path} is not the file`);
    assertHeaders(headers, path);
    const type = TYPES[extname(file)];
    if (type) assert.equal(headers['content-type'], type, path);
    else assert.doesNotMatch(headers['content-type'], /html|script|css|xml/, path);
    assert.match(headers.etag, /^W\/"[0-9a-f]{64}"$/, path);

    const head = await ask(path, { method: 'HEAD' });
    assert.equal(head.status, 200, path);
    assert.equal(head.body.length, 0, path);
    assert.equal(head.headers.etag, headers.etag, path);
    assertHeaders(head.headers, path);
  }
});

test('what the browser has already is not sent again', async () => {
  for (const path of ['/', '/ui/main.js', '/ui/style.css']) {
    const { etag } = (await ask(path)).headers;
    for (const had of [etag, `"another", ${etag}`, '*']) {
      const again = await ask(path, { headers: { 'If-None-Match': had } });
      assert.equal(again.status, 304, `${path} with ${had}`);
      assert.equal(again.body.length, 0);
      assert.equal(again.headers.etag, etag);
      assertHeaders(again.headers, path);
    }
    const other = await ask(path, { headers: { 'If-None-Match': '"another"' } });
    assert.equal(other.status, 200, path);
  }
});

test('files are compressed for who asks for it', async () => {
  for (const path of ['/', '/ui/main.js', '/ui/style.css']) {
    const plain = await ask(path);
    assert.equal(plain.headers['content-encoding'], undefined, path);
    assert.equal(plain.headers.vary, 'accept-encoding', path);
    const gzip = await ask(path, { headers: { 'Accept-Encoding': 'gzip' } });
    assert.equal(gzip.headers['content-encoding'], 'gzip', path);
    assert.ok(gunzipSync(gzip.body).equals(plain.body), path);
    assert.ok(gzip.body.length < plain.body.length, path);
    assertHeaders(gzip.headers, path);
    const zstd = await ask(path, { headers: { 'Accept-Encoding': 'zstd' } });
    assert.equal(zstd.headers['content-encoding'], 'zstd', path);
  }
});

test('what is not a file of the dashboard is not there', async () => {
  const paths = [
    '/ui/nothing.js', '/ui', '/ui/', '/ui/vendor', '/ui/vendor/', '/ui/main.js/',
    '/ui/../Cargo.toml', '/ui/../../Cargo.toml', '/ui/vendor/../../main.rs',
    '/ui/%2e%2e/main.rs', '/ui/%2e%2e%2fmain.rs', '/ui/..%2f..%2fCargo.toml', '/ui/..%5cmain.rs',
    '/ui/%252e%252e%252fmain.rs', '/ui//etc/passwd', '/ui/%2fetc%2fpasswd', '/ui/main.js%00',
    '/ui/%ff%fe', '/ui/.', '/index.html',
  ];
  for (const path of paths) {
    const { status, headers, body } = await ask(path);
    assert.equal(status, 404, `${path}: ${body}`);
    assert.equal(headers['content-type'], 'application/problem+json', path);
    assert.equal(JSON.parse(body).code, 'NTF-001', path);
  }
});

test('files are read and nothing else', async () => {
  for (const method of ['POST', 'PUT', 'DELETE']) {
    for (const path of ['/', '/ui/main.js']) {
      const { status, headers } = await ask(path, { method });
      assert.equal(status, 405, `${method} ${path}`);
      assert.equal(headers['content-type'], 'application/problem+json');
    }
  }
});

test('the page loads what it is made of, and asks nobody else', async () => {
  const view = await open({ path: 'about:blank' });
  const answers = [];
  view.context.on('response', (answer) => answers.push(answer));
  await view.page.goto('/', { waitUntil: 'networkidle' });
  const known = new Set(['/', ...files().map((file) => `/ui/${file}`)]);
  const loaded = new Set();
  for (const answer of answers) {
    const { pathname } = new URL(answer.url());
    loaded.add(pathname);
    assert.ok(known.has(pathname), `${pathname} is no file of the dashboard`);
    assert.equal(answer.status(), 200, pathname);
    assertHeaders(await answer.allHeaders(), pathname);
  }
  for (const path of ['/', '/ui/main.js', '/ui/style.css']) {
    assert.ok(loaded.has(path), `${path} is loaded`);
  }
  await view.close();
});
