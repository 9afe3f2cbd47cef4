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

// A visitor who has been nowhere yet.
export async function visit(
  browser: Browser,
  name: string,
  work: (page: Page) => Promise<void>,
  viewport = { width: 1000, height: 600 },
): Promise<void> {
  const context = await browser.newContext({ viewport });
  context.setDefaultTimeout(patienceMs);
  let shown = await context.newPage();
  context.on('page', (page) => (shown = page));
  try {
    await work(shown);
  } finally {
    await shown.screenshot({ path: join(screenshots, `${name}.png`) });
    await context.close();
  }
}
