// How values are shown. Nothing here loses a digit: what is shortened has its whole self beside it.
import { prefs } from './prefs.js';

const TIME = /^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2})\.(\d{6})Z$/;

/**
 * An instant of the ledger (RFC 3339, UTC, six digits) for people, in the zone they chose.
 * @param {string} instant
 * @param {{digits?: number, zone?: 'utc' | 'local'}} [options] digits of the second's fraction
 */
export function time(instant, { digits = 3, zone = prefs.get().zone } = {}) {
  const parts = TIME.exec(instant ?? '');
  if (!parts) return String(instant ?? '');
  const fraction = digits > 0 ? `.${parts[3].slice(0, digits)}` : '';
  if (zone === 'utc') return `${parts[1]} ${parts[2]}${fraction}`;
  // A Date has milliseconds alone; the rest of the fraction is the same in every zone.
  const at = new Date(`${parts[1]}T${parts[2]}Z`);
  const two = (number) => String(number).padStart(2, '0');
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(':');
  return `${day} ${clock}${fraction}`;
}

/** The name of the zone in which times are shown, for headings. */
export function zoneName(zone = prefs.get().zone) {
  if (zone === 'utc') return 'UTC';
  const minutes = -new Date().getTimezoneOffset();
  const sign = minutes < 0 ? '−' : '+';
  const two = (number) => String(number).padStart(2, '0');
  return `UTC${sign}${two(Math.trunc(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
}

const UNITS = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];

/** How long ago an instant was, in its largest unit: `12 s`, `3 h`. */
export function age(instant, now = Date.now()) {
  return duration(now - Date.parse(instant));
}

/** A duration of so many milliseconds, in its largest units. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return '–';
  if (Math.abs(ms) < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = Math.max(0, Math.round(ms / 1000));
  const at = UNITS.findIndex(([, size]) => seconds >= size);
  const [unit, size] = UNITS[at];
  const next = UNITS[at + 1];
  const left = next && Math.floor(seconds / size) < 10
    ? Math.floor((seconds % size) / next[1]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${left > 0 ? ` ${left} ${next[0]}` : ''}`;
}

/** A duration of milliseconds as it is, also one below zero. */
export function millis(ms) {
  if (ms === null || ms === undefined) return '–';
  return ms < 0 ? `−${duration(-ms)}` : duration(ms);
}

/** A duration of so many microseconds. */
export function durationOfMicros(micros) {
  if (micros === null || micros === undefined) return '–';
  if (micros < 1000) return `${micros} µs`;
  if (micros < 1_000_000) return `${(micros / 1000).toFixed(1)} ms`;
  return duration(micros / 1000);
}

const counts = new Intl.NumberFormat('en-US');

/** A count: `1,234,567`. */
export function count(number) {
  return number === null || number === undefined ? '–' : counts.format(number);
}

/** A decimal without the zeros that its column's scale adds: `64250.5` for `64250.5000000000`. */
export function decimal(text) {
  return /^-?\d+\.\d+$/.test(text ?? '') ? text.replace(/\.?0+$/, '') : String(text ?? '–');
}

/** So many bytes. */
export function bytes(number) {
  if (number < 1000) return `${number} B`;
  const unit = number < 1e6 ? ['kB', 1e3] : number < 1e9 ? ['MB', 1e6] : ['GB', 1e9];
  return `${(number / unit[1]).toFixed(1)} ${unit[0]}`;
}

/** The beginning and the end of what is too long for a column. */
export function short(text, head = 8, tail = 4) {
  return text.length <= head + tail + 1 ? text : `${text.slice(0, head)}…${text.slice(-tail)}`;
}

/** A name of the database for people: `correlation_id` is `correlation id`. */
export function words(name) {
  return name.replaceAll('_', ' ');
}

/** A cell of a table. */
export function cell(value) {
  if (value === null || value === undefined) return '–';
  return typeof value === 'string' ? value : JSON.stringify(value);
}
