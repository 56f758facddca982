// Who looks: an API key, kept for this tab alone (sessionStorage), and what it may do.
import { observable } from './observable.js';

const NAME = 'ledger.key';

function keptKey() {
  try {
    return sessionStorage.getItem(NAME);
  } catch {
    return null;
  }
}

/**
 * `key`: the API key, or null. `holder`: what `/v1/key` says of it once that is known.
 * `why`: why one was signed out, where one did not want to.
 */
export const session = observable({ key: keptKey(), holder: null, why: null });

/** Keeps a key that was found to be in force. */
export function signIn(key, holder) {
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // Then it is asked for again when the page is loaded again.
  }
  session.set({ key, holder, why: null });
}

/** Forgets the key. */
export function signOut(why = null) {
  try {
    sessionStorage.removeItem(NAME);
  } catch {
    // There is none, then.
  }
  session.set({ key: null, holder: null, why });
}

/** Whether the key has this scope: what it does not allow is not offered. */
export function can(scope) {
  return session.get().holder?.scopes.includes(scope) ?? false;
}
