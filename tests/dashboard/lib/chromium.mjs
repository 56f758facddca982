// How the browser is started, for whoever looks at the dashboard with it.

if (!process.env.CHROMIUM) throw new Error('CHROMIUM is not set: it names the browser');

/** Options of Playwright's `chromium.launch`. */
export const LAUNCH = {
  executablePath: process.env.CHROMIUM,
  // Chromium has no sandbox for root.
  chromiumSandbox: process.getuid() !== 0,
  args: [
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-quic', '--no-first-run',
    // The error page of a service that is away would load it again by itself, under a test's feet.
    '--disable-auto-reload',
    // A page that wants to talk to anybody else finds nobody.
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
  ],
};
