// Files that the page itself makes of what it has loaded.

/** How long a file stays there for the browser to fetch, which it does at once. */
const KEPT_FOR_MS = 10_000;

/**
 * Has the browser save a file.
 * @param {string} name
 * @param {string | Uint8Array} content text is written as UTF-8, byte for byte
 * @param {string} [type] its media type
 */
export function saveAs(name, content, type = 'application/octet-stream') {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), KEPT_FOR_MS);
}
