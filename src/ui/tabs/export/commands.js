// The same from a terminal. What is typed there holds no key: it is taken from the environment.

/** A word as every POSIX shell reads it back, whatever stands in it. */
export function quoted(word) {
  if (/^[\w./:=@%+,-]+$/.test(word)) return word;
  return `'${word.replaceAll('\'', '\'\\\'\'')}'`;
}

/** The path and query of an export, as the API takes it. */
export function exportPath(chain, format, filters) {
  return `/v1/export/${encodeURIComponent(chain)}?${new URLSearchParams({ format, ...filters })}`;
}

/** As the page itself asks, wherever a proxy serves it. */
export function curlOf(path, base = document.baseURI) {
  return `curl --fail --remote-name --remote-header-name \\
  --header "Authorization: Bearer $LEDGER_KEY" \\
  ${quoted(new URL(path.replace(/^\//, ''), base).href)}`;
}

const ENDS = { bundle: 'zip' };

/** On the machine of the service, with its configuration. */
export function exportCommandOf(chain, format, filters) {
  const given = Object.entries(filters).map(([name, value]) => ` \\
  --filter ${quoted(`${name}=${value}`)}`);
  return `audit-ledger export ${chain} --format ${format}${given.join('')} \\
  --output ${chain}.${ENDS[format] ?? format}`;
}

/** How whoever gets the file checks it, or null where there is nothing that checks it. */
export function verifyCommandOf(chain, format) {
  if (format === 'bundle') return `ledger-verify bundle ${chain}.zip --key vkey.txt`;
  if (format === 'ndjson') return `ledger-verify ndjson ${chain}.ndjson`;
  return null;
}
