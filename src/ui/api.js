// The public API, as anybody may use it.
import { observable } from './observable.js';
import { session, signOut } from './session.js';

/**
 * Since when the ledger is locked down (RFC 3339), or null. Every answer of the API says so
 * (`Ledger-Lockdown`), so it is known as soon as anything is asked.
 */
export const lockedSince = observable(null);

/** A refusal of the API (RFC 9457), or that it could not be reached. */
export class ApiError extends Error {
  /**
   * @param {number} status HTTP status; 0 where there was no answer
   * @param {{code?: string, detail?: string, title?: string, field?: string, request_id?: string}} problem
   * @param {number | null} retryAfter seconds after which another try may help
   */
  constructor(status, problem, retryAfter = null) {
    super(problem.detail || problem.title || `the service answered ${status}`);
    this.name = 'ApiError';
    this.status = status;
    this.code = problem.code ?? null;
    this.field = problem.field ?? null;
    this.requestId = problem.request_id ?? null;
    this.retryAfter = retryAfter;
  }
}

/**
 * For what nobody waits for first: a browser has six connections to a service (HTTP/1.1), and gives
 * them to others before.
 */
export const LATER = { priority: 'low' };

/** A path with its parameters; those that are null, undefined or empty are left out. */
export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== '');
  if (given.length === 0) return path;
  return `${path}?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}`;
}

/**
 * Asks the API. Paths are relative to the page, so that a proxy may serve it under a prefix.
 * @returns {Promise<Response>} an answer of success
 * @throws {ApiError}
 */
export async function ask(
  path, { method = 'GET', body, headers = {}, signal, key, priority } = {},
) {
  const used = key ?? session.get().key;
  const all = { ...headers };
  if (used) all.Authorization = `Bearer ${used}`;
  if (body !== undefined) all['Content-Type'] = 'application/json';
  let answer;
  try {
    answer = await fetch(path.replace(/^\//, ''), {
      method, headers: all, signal, priority, cache: 'no-store', credentials: 'omit',
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new ApiError(0, { detail: 'the service cannot be reached', code: null });
  }
  // Only to a key's holder does the service tell, under /v1; a refusal says nothing about it.
  if (answer.ok && /^\/?v1\//.test(path)) lockedSince.set(answer.headers.get('Ledger-Lockdown'));
  if (answer.ok) return answer;
  const error = await refusal(answer);
  // Another's key, tried for a moment, does not end the session.
  if (answer.status === 401 && key === undefined && used) {
    signOut('The key is not in force any more. Sign in again.');
  }
  throw error;
}

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch {
    // A proxy's page, for example.
  }
  const retryAfter = Number.parseInt(answer.headers.get('Retry-After') ?? '', 10);
  return new ApiError(answer.status, problem, Number.isNaN(retryAfter) ? null : retryAfter);
}

/** A JSON answer. */
export async function getJson(path, query, options) {
  return (await ask(withQuery(path, query), options)).json();
}

/** A text, byte for byte as UTF-8. */
export async function getText(path, query, options) {
  return (await ask(withQuery(path, query), options)).text();
}

/** Sends JSON (or nothing) and reads JSON. */
export async function postJson(path, body, options = {}) {
  return (await ask(path, { ...options, method: 'POST', body })).json();
}

/**
 * Server-sent events as they come (HTML, section 9.2.6), read from a fetch: an EventSource can send
 * no key. `{id, event, data}` each; `data` is text.
 */
export async function* events(path, {
  query, lastEventId, method, signal, onOpen, silenceMs = Infinity,
} = {}) {
  const headers = { Accept: 'text/event-stream' };
  if (lastEventId != null) headers['Last-Event-ID'] = String(lastEventId);
  const answer = await ask(withQuery(path, query), { method, headers, signal });
  onOpen?.(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = { id: null, event: 'message', data: [] };
  try {
    for (;;) {
      const { value, done } = await within(reader.read(), silenceMs);
      if (done) return;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (event.id !== null || event.data.length > 0) {
            yield { ...event, data: event.data.join('\n') };
          }
          event = { id: null, event: 'message', data: [] };
        } else if (!line.startsWith(':')) {
          readField(line, event);
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What comes within so many milliseconds: a connection can be dead without saying so. */
async function within(coming, ms) {
  if (ms === Infinity) return coming;
  let timer;
  const silent = new Promise((_, reject) => {
    const error = new ApiError(0, { detail: `nothing was heard for ${ms / 1000} s` });
    timer = setTimeout(() => reject(error), ms);
  });
  try {
    return await Promise.race([coming, silent]);
  } finally {
    clearTimeout(timer);
  }
}

function readField(line, event) {
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
  if (name === 'data') event.data.push(value);
  else if (name === 'id') event.id = value;
  else if (name === 'event') event.event = value;
}

const AGAIN_AFTER_MS = [500, 1000, 2000, 5000];
/** The service tells every 15 seconds that there is nothing to tell. */
const SILENCE_MS = 40_000;

/**
 * Follows a stream of events for as long as the signal lets it: when it breaks off it connects
 * again, and goes on behind the last event without a gap.
 * @param {(event: {id, event, data}) => void} onEvent
 * @param {(state: 'connecting' | 'live' | 'waiting', error?: Error) => void} onState
 */
export async function follow(path, { query, lastEventId = null, signal, onEvent, onState }) {
  let last = lastEventId;
  let failed = 0;
  while (!signal.aborted) {
    onState('connecting');
    let error = null;
    try {
      const onOpen = () => onState('live');
      const options = { query, lastEventId: last, signal, onOpen, silenceMs: SILENCE_MS };
      for await (const event of events(path, options)) {
        failed = 0;
        if (event.id !== null) last = event.id;
        if (event.data !== '') onEvent(event);
      }
    } catch (caught) {
      if (signal.aborted) return;
      error = caught;
      // What was asked is refused: another try would be, too.
      if (caught instanceof ApiError && [400, 401, 403, 404].includes(caught.status)) {
        onState('waiting', caught);
        return;
      }
    }
    if (signal.aborted) return;
    onState('waiting', error);
    const pause = AGAIN_AFTER_MS[Math.min(failed, AGAIN_AFTER_MS.length - 1)];
    failed += 1;
    await sleep(pause, signal);
  }
}

/** Waits so many milliseconds, or until the signal says to stop. */
export function sleep(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    }, { once: true });
  });
}
