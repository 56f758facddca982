// No module: it runs before anything is painted, so that a dark page never flashes white. From then
// on prefs.js says which theme it is.
(() => {
  let theme = null;
  try {
    theme = JSON.parse(localStorage.getItem('ledger.prefs') ?? '{}').theme;
  } catch {
    // Storage may be forbidden; the system's theme it is.
  }
  if (theme !== 'dark' && theme !== 'light') {
    theme = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
  }
  document.documentElement.dataset.theme = theme;
})();
