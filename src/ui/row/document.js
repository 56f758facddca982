// What came byte for byte is shown byte for byte; a prettier view says that it is one.
import { saveAs } from '../download.js';
import * as format from '../format.js';
import { Copy, Notice } from '../parts.js';
import { html, useMemo, useState } from '../preact.js';
import { bytesToHex, fromBase64, sha256, utf8 } from '../verify/bytes.js';
import { ExactText, Unseen } from './text.js';

/** Shown at once; what is longer is shown when somebody asks for it, since layout takes a while. */
const SHOWN_CHARS = 100_000;
const HEX_WIDTH = 16;
/** Beyond this nothing is indented further. */
const MAX_INDENT = 40;
const TOKENS = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/**
 * JSON with line breaks and indents, token by token: every number, text and member is spelt as it
 * came, and none is lost or moved.
 * @param {string} text
 * @returns {string | null} null where the text is no JSON
 */
export function reindented(text) {
  try {
    JSON.parse(text);
  } catch {
    return null;
  }
  const lines = [];
  let depth = 0;
  let line = '';
  const broken = () => {
    lines.push(line);
    line = '  '.repeat(Math.min(depth, MAX_INDENT));
  };
  let before = '';
  for (const [token] of text.matchAll(TOKENS)) {
    const closes = token === '}' || token === ']';
    const opened = before === '{' || before === '[';
    if (closes) depth -= 1;
    // Empty braces stay together.
    if (opened !== closes || before === ',') broken();
    line += token === ':' ? ': ' : token;
    if (token === '{' || token === '[') depth += 1;
    before = token;
  }
  return [...lines, line].join('\n');
}

/** Bytes as a hex dump: offset, 16 bytes, and what of them is printable ASCII. */
function hexOf(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += HEX_WIDTH) {
    const part = [...bytes.subarray(at, at + HEX_WIDTH)];
    const digits = part.map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
    const isPrintable = (byte) => byte >= 0x20 && byte < 0x7f;
    const chars = part.map((byte) => (isPrintable(byte) ? String.fromCharCode(byte) : '.'));
    const offset = at.toString(16).padStart(8, '0');
    lines.push(`${offset}  ${digits.padEnd(HEX_WIDTH * 3 - 1)}  ${chars.join('')}`);
  }
  return lines.join('\n');
}

/** A JSON document as it came. `name` is for people, `file` what it is saved as. */
export function TextDocument({ name, text, file }) {
  const bytes = useMemo(() => attempt(() => utf8(text)), [text]);
  const [pretty, setPretty] = useState(false);
  const indented = useMemo(() => (pretty ? reindented(text) : null), [pretty, text]);
  const views = [
    { title: 'As it came', on: !pretty, choose: () => setPretty(false) },
    { title: 'Indented', on: pretty, choose: () => setPretty(true) },
  ];
  return html`<${Frame} name=${name} bytes=${bytes} file=${file} copied=${text} views=${views}>
    ${pretty && html`<p class="muted"><small>${indented === null
      ? 'This is no JSON, so it is shown as it came.'
      : 'Indented for reading: white space between values is not the original’s.'}</small></p>`}
    <${Exact} name=${name} text=${indented ?? text} />
    <${Unseen} text=${text} />
  <//>`;
}

/** Bytes as they came: as text where they are that, and as a hex dump always. */
export function BytesDocument({ name, base64, file }) {
  const bytes = useMemo(() => attempt(() => fromBase64(base64)), [base64]);
  const text = useMemo(() => bytes && attempt(() => decoded(bytes, true)), [bytes]);
  const [view, setView] = useState(null);
  const hex = (view ?? (text === null ? 'hex' : 'text')) === 'hex';
  const shown = useMemo(
    () => bytes && (hex ? hexOf(bytes) : text ?? decoded(bytes, false)), [hex, bytes, text]);
  if (!bytes) {
    return html`<${Frame} name=${name} bytes=${null} file=${file} copied=${base64} views=${[]}>
      <${Notice} kind="bad" title="This is no base64, so there are no bytes to show." />
      <${Exact} name=${name} text=${base64} />
    <//>`;
  }
  const views = [
    { title: 'Text', on: !hex, choose: () => setView('text') },
    { title: 'Hex', on: hex, choose: () => setView('hex') },
  ];
  return html`<${Frame} name=${name} bytes=${bytes} file=${file} copied=${base64} views=${views}
    copy="Copy base64">
    ${text === null && html`<${Notice} kind="warn" title="These bytes are no UTF-8.">
      ${sayInvalid(firstInvalid(bytes), bytes)}${!hex && ' What cannot be read stands as �.'}<//>`}
    <${Exact} name=${name} text=${shown} class=${hex ? 'hex' : ''} />
    ${!hex && html`<${Unseen} text=${shown} />`}
  <//>`;
}

function sayInvalid(at, bytes) {
  return at < bytes.length ? `The byte at offset ${at} (0x${at.toString(16)}) cannot stand there.`
    : 'They end within a character.';
}

/** Where the first byte stands that cannot be in UTF-8 text; their number where the end is cut. */
function firstInvalid(bytes) {
  const begins = (end) => attempt(() => {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, end), { stream: true });
    return true;
  });
  let [valid, invalid] = [0, bytes.length + 1];
  while (invalid - valid > 1) {
    const middle = (valid + invalid) >> 1;
    if (begins(middle)) valid = middle;
    else invalid = middle;
  }
  return valid;
}

function Frame({ name, bytes, file, copied, views, copy = 'Copy', children }) {
  const digest = useMemo(() => bytes && bytesToHex(sha256(bytes)), [bytes]);
  return html`<section class="document" aria-label=${name}>
    <header><h3>${name}</h3>
      <div class="actions">
        ${views.map(({ title, on, choose }) => html`<button key=${title} type="button" class="small"
          aria-pressed=${on ? 'true' : 'false'} onClick=${choose}>${title}</button>`)}
        <${Copy} text=${copied} label=${copy} what=${name} />
        ${bytes && html`<button type="button" class="small quiet" aria-label=${`Download ${name}`}
          onClick=${() => saveAs(file, bytes)}>Download</button>`}
      </div></header>
    ${children}
    ${bytes && html`<dl class="facts small">
      <dt>length</dt><dd data-is="length">${format.count(bytes.length)} bytes</dd>
      <dt>SHA-256</dt><dd class="mono" data-is="sha256">${digest}</dd></dl>`}
  </section>`;
}

function Exact({ name, text, class: kind = '' }) {
  const [all, setAll] = useState(false);
  const cut = !all && text.length > SHOWN_CHARS;
  const shown = cut ? text.slice(0, SHOWN_CHARS) : text;
  return html`<pre tabindex="0" role="group" aria-label=${`${name}, its text`} class=${kind}><${
    ExactText} text=${shown} /></pre>
    ${cut && html`<button type="button" class="small" onClick=${() => setAll(true)}>Show the other
      ${format.count(text.length - SHOWN_CHARS)} characters</button>`}`;
}

function decoded(bytes, fatal) {
  return new TextDecoder('utf-8', { fatal, ignoreBOM: true }).decode(bytes);
}

function attempt(make) {
  try {
    return make();
  } catch {
    return null;
  }
}
