// Text of the ledger, character for character, with what would not be seen marked where it stands.
import { html } from '../preact.js';

const NAMES = new Map([
  [0x0, 'null'], [0x1b, 'escape'], [0x85, 'next line'], [0x200b, 'zero-width space'],
  [0x200e, 'left-to-right mark'], [0x200f, 'right-to-left mark'],
  [0x2028, 'line separator'], [0x2029, 'paragraph separator'],
  [0x202a, 'left-to-right embedding'], [0x202b, 'right-to-left embedding'],
  [0x202c, 'end of direction'], [0x202d, 'left-to-right override'],
  [0x202e, 'right-to-left override'], [0xad, 'soft hyphen'], [0xfeff, 'byte order mark'],
]);
const MAX_NAMED = 8;

/** Control and format characters, but the joiner of emoji and what every text has. */
const UNSEEN = /(?![\t\n\r\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
/** More than these are not marked one by one. */
const MAX_MARKED = 2000;

/**
 * A text of which every character is there, and none of which changes how the others look: a
 * direction that is switched holds for the mark alone that it stands in.
 */
export function ExactText({ text }) {
  const parts = [];
  let at = 0;
  for (const { 0: char, index } of text.matchAll(UNSEEN)) {
    if (parts.length >= 2 * MAX_MARKED) break;
    if (index > at) parts.push(text.slice(at, index));
    parts.push(html`<span key=${index} class="unseen-char" data-code=${pointOf(char)}
      title=${titleOf(char.codePointAt(0))}>${char}</span>`);
    at = index + char.length;
  }
  return parts.length === 0 ? text : [...parts, text.slice(at)];
}

/** Characters that change how a text looks and are not seen themselves, with how often. */
function unseenIn(text) {
  const counts = new Map();
  for (const [char] of text.matchAll(UNSEEN)) {
    const code = char.codePointAt(0);
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  return counts;
}

function pointOf(char) {
  return `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}

function titleOf(code) {
  const point = pointOf(String.fromCodePoint(code));
  return NAMES.has(code) ? `${point} (${NAMES.get(code)})` : point;
}

/** Says that a text is not all that it looks like, where that is so. */
export function Unseen({ text }) {
  const found = [...unseenIn(text)];
  if (found.length === 0) return null;
  const named = found.slice(0, MAX_NAMED)
    .map(([code, count]) => `${titleOf(code)}${count > 1 ? ` ×${count}` : ''}`);
  const others = found.length - named.length;
  return html`<small class="unseen">Not seen, but there: ${named.join(', ')}${
    others > 0 && ` and ${others} more`}</small>`;
}
