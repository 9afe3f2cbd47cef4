// Debian's Chromium, and what it shows kept as pictures in .build/screenshots, of failures too.
import { join } from 'node:path';

import { type Browser, type Page, chromium } from 'playwright-core';

const screenshots = join(import.meta.dirname, '../../../.build/screenshots');
// It asks nobody but the pages it is sent to.
const args = [
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--no-proxy-server',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
const patienceMs = 300_000; // An emulated CPU serves these pages.

// With a profile of its own, which goes when it is closed.
export function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: '/usr/bin/chromium', chromiumSandbox: false, args });
}

// Chromium gives up every request that waits for a connection when any interface of this machine gets or loses an address,
// as it does with each slot of another mesh. Pages do not ask again, so whoever meets it comes anew.
const machineChanged = 'net::ERR_NETWORK_CHANGED';
const mostVisits = 5;

// A visitor who has been nowhere yet.
export async function visit(
  browser: Browser,
  name: string,
  work: (page: Page) => Promise<void>,
  viewport = { width: 1000, height: 600 },
): Promise<void> {
  for (let count = 1; ; count++) {
    const failed: string[] = [];
    const context = await browser.newContext({ viewport });
    context.setDefaultTimeout(patienceMs);
    context.on('requestfailed', (request) => {
      const why = request.failure()?.errorText ?? 'unknown';
      failed.push(`${request.method()} ${request.url()}: ${why}`);
      if (why === machineChanged) void context.close(); // What the visitor waits for may never come.
    });
    let shown = await context.newPage();
    context.on('page', (page) => (shown = page));
    const isDisturbed = () => failed.some((line) => line.endsWith(machineChanged));
    try {
      return await work(shown);
    } catch (error) {
      if (!isDisturbed() || count === mostVisits)
        throw new Error(`${name}; failed requests: ${failed.join(', ') || 'none'}`, { cause: error });
    } finally {
      if (!isDisturbed()) await shown.screenshot({ path: join(screenshots, `${name}.png`) });
      await context.close();
    }
  }
}
