// Which verifier keys this browser trusts. What the service says of its own keys proves nothing, so
// a key is either entered by whoever got it elsewhere, or it is the one that was seen first.
import { observable } from '../observable.js';
import { parseVkey } from '../verify.js';

const NAME = 'ledger.vkeys';

/**
 * What is kept, by the name of the log (its origin):
 * `{entered: [vkey], entered_at, seen: [vkey], seen_at}`. Public halves alone.
 */
export const trust = observable(kept());

function kept() {
  try {
    return readable(JSON.parse(localStorage.getItem(NAME) ?? '{}'));
  } catch {
    return {};
  }
}

/** Only what has the shape that is written here. */
function readable(stored) {
  const logs = {};
  for (const [origin, known] of Object.entries(stored ?? {})) {
    const entered = Array.isArray(known?.entered) ? known.entered : [];
    const seen = Array.isArray(known?.seen) ? known.seen : [];
    const [entered_at, seen_at] = [String(known?.entered_at ?? ''), String(known?.seen_at ?? '')];
    logs[origin] = { entered, entered_at, seen, seen_at };
  }
  return logs;
}

function keep(logs) {
  trust.set(logs);
  try {
    localStorage.setItem(NAME, JSON.stringify(logs));
  } catch {
    // Then it holds for this page.
  }
}

// Another tab may have entered or forgotten one.
addEventListener('storage', (event) => {
  if (event.key === NAME || event.key === null) trust.set(kept());
});

/** Reads what somebody pasted: keys, one a line. Throws a VerifyError that says what is wrong. */
export function readKeys(text) {
  const lines = text.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  return lines.map(parseVkey);
}

/** Trusts these keys, and no others of their logs, from now on. */
export function enterKeys(vkeys) {
  const logs = { ...trust.get() };
  const at = new Date().toISOString();
  for (const name of new Set(vkeys.map((vkey) => vkey.name))) {
    const entered = vkeys.filter((vkey) => vkey.name === name).map(({ text }) => text);
    logs[name] = { seen: [], seen_at: '', ...logs[name], entered, entered_at: at };
  }
  keep(logs);
}

/** Remembers keys of a log of which none is known. */
export function rememberFirst(origin, vkeys) {
  const logs = trust.get();
  const known = logs[origin];
  if (known && known.entered.length + known.seen.length > 0) return;
  const seen_at = new Date().toISOString();
  keep({ ...logs, [origin]: { entered: [], entered_at: '', seen: vkeys, seen_at } });
}

/** Forgets everything. */
export function forgetKeys() {
  keep({});
}

/**
 * The keys by which a checkpoint of this log is judged.
 * @param {string} origin the log's name, as the checkpoint says it
 * @param {string[]} offered what the service says its keys are
 * @returns {{how: 'entered' | 'seen' | 'other' | 'first', vkeys: string[], at: string}} `other`:
 *   keys are known, but of other logs; then those judge, and none of them can have signed
 */
export function keysFor(origin, offered) {
  const logs = trust.get();
  const known = Object.hasOwn(logs, origin) ? logs[origin] : null;
  if (known?.entered.length > 0) {
    return { how: 'entered', vkeys: known.entered, at: known.entered_at };
  }
  if (known?.seen.length > 0) return { how: 'seen', vkeys: known.seen, at: known.seen_at };
  const others = Object.values(logs).flatMap(({ entered, seen }) => [...entered, ...seen]);
  if (others.length > 0) return { how: 'other', vkeys: others, at: '' };
  return { how: 'first', vkeys: offered, at: '' };
}
