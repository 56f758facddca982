// What is read of an event of the feed before it is known whether it will be shown. A row as JSON
// (FORMAT.md, section 2) is flat: its documents are strings. A quotation mark within a string has a
// backslash before it, so `"name":` stands nowhere but where a member begins.

/** The columns that say where a row came from; `recorded_by` in all other chains. */
const SOURCES = {
  signal_audit_ledger: 'source_module',
  quarantined_deliveries: 'source',
  security_events: 'actor',
};

/** The column of a chain that names its rows' sources. */
export function sourceColumn(chain) {
  return SOURCES[chain] ?? 'recorded_by';
}

/**
 * The text of a member of a row, read without reading the rest.
 * @param {string} json a row as JSON
 * @returns {string | null} null where it is null or no text
 */
export function textMember(json, name) {
  const mark = `"${name}":"`;
  const at = json.indexOf(mark);
  if (at < 0) return null;
  const start = at + mark.length;
  let end = json.indexOf('"', start);
  while (end >= 0 && isEscaped(json, end)) end = json.indexOf('"', end + 1);
  if (end < 0) return null;
  const text = json.slice(start, end);
  return text.includes('\\') ? JSON.parse(`"${text}"`) : text;
}

function isEscaped(json, at) {
  let backslashes = 0;
  while (json[at - 1 - backslashes] === '\\') backslashes += 1;
  return backslashes % 2 === 1;
}

/** Where the row of an event came from. */
export function sourceOf(chain, json) {
  return textMember(json, sourceColumn(chain)) ?? '–';
}

/** The second in which the row of an event was appended. */
export function secondOf(json) {
  const at = Date.parse(textMember(json, 'created_at') ?? '');
  return Number.isNaN(at) ? null : Math.floor(at / 1000);
}

/** Whether nobody may miss it. */
export function isAlarming(chain, json) {
  return chain === 'order_events' && textMember(json, 'event_type') === 'KILL_SWITCH';
}
