// Applications as people run them, in real sandboxes, through the edge, in a real browser. docs/apps.md says the same
// in prose: by host name they run as they are; by path they must link relatively, or be told where they are.
import { createReadStream } from 'node:fs';
import { join } from 'node:path';

import { eventually } from '@wrenn/kit/testkit/eventually';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { startBrowser, visit } from '../src/browser.ts';
import { GuestFiles } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['jupyter', 'node'] });
const nextApp = join(import.meta.dirname, '../../../.build/next-app');
const slow = 600_000;
let python: Guest;
let node: Guest;
let browser: Browser;

beforeAll(async () => {
  [python, node, browser] = await Promise.all([mesh.now.create('jupyter'), mesh.now.create('node'), startBrowser()]);
});
afterAll(() => browser?.close());

const edge = () => mesh.now.mesh.addresses.edgeProxy;
const byHost = (guest: Guest, port: number) => `http://${port}-${guest.id}.localhost:${edge().split(':').at(-1)}`;
const byPath = (guest: Guest, port: number) => `http://${edge()}/proxy/${guest.id}/${port}`;
const toldPath = (guest: Guest, port: number) => `/absproxy/${guest.id}/${port}`;
const byToldPath = (guest: Guest, port: number) => `http://${edge()}${toldPath(guest, port)}`;

async function listening(guest: Guest, port: number): Promise<void> {
  const url = byPath(guest, port);
  await eventually(`${url} answers`, async () => (await fetch(`${url}/`)).status < 500, slow);
}

test('a file server: listings, sub-directories, and a directory without its slash', { timeout: slow }, async () => {
  await python.sh('mkdir -p /tmp/files/notes/2026 && echo "hello from inside" > /tmp/files/notes/2026/hello.txt');
  await python.start('python3', ['-m', 'http.server', '8000', '--directory', '/tmp/files']);
  await listening(python, 8000);
  for (const [form, base] of Object.entries({ host: byHost(python, 8000), path: byPath(python, 8000) })) {
    await visit(browser, `files-by-${form}`, async (page) => {
      await page.goto(`${base}/`);
      for (const [name, shown] of [
        ['notes/', `${base}/notes/`],
        ['2026/', `${base}/notes/2026/`],
      ] as const) {
        await page.getByRole('link', { name }).click();
        await page.waitForURL(shown);
        expect(await page.title()).toContain(name);
      }
      const answer = await page.goto(`${base}/notes`);
      expect(page.url()).toBe(`${base}/notes/`);
      expect(answer?.request().redirectedFrom()?.redirectedFrom()).toBeNull(); // One redirect, no loop.
      await page.getByRole('link', { name: '2026/' }).click();
      await page.getByRole('link', { name: 'hello.txt' }).click();
      await page.getByText('hello from inside').waitFor();
      expect(page.url()).toBe(`${base}/notes/2026/hello.txt`);
    });
  }
});

// A test for each form: on a machine with other work, an emulated CPU needs minutes for one.
const notebook = 'a notebook by %s: its redirects and token, and a cell run over its WebSocket';
test.each(['host', 'path'] as const)(notebook, { timeout: slow }, async (form) => {
  const port = form === 'host' ? 8888 : 8889;
  const base = form === 'host' ? byHost(python, port) : byToldPath(python, port);
  const options = ['--no-browser', '--ip=0.0.0.0', `--port=${port}`, '--NotebookApp.token=a-token'];
  if (form === 'path') options.push(`--NotebookApp.base_url=${toldPath(python, port)}/`);
  await python.start('jupyter', ['notebook', ...options], { cwd: '/home/user' });
  await listening(python, port);
  await visit(browser, `notebook-by-${form}`, async (page) => {
    await page.goto(`${base}/`);
    expect(page.url()).toMatch(new RegExp(`^${base}/login`)); // Whoever has no token is sent there.
    await page.goto(`${base}/?token=a-token`);
    await page.waitForURL(`${base}/tree`); // Its script takes the token out of sight.
    await page.locator('#new-dropdown-button').click();
    const [notes] = await Promise.all([page.context().waitForEvent('page'), page.locator('#kernel-python3 a').click()]);
    const sockets: string[] = [];
    notes.on('websocket', (socket) => sockets.push(socket.url()));
    await notes.locator('.kernel_idle_icon').waitFor();
    await notes.locator('.CodeMirror').first().click();
    await notes.keyboard.insertText("import os; print('run in ' + os.environ['WRENN_SANDBOX_ID'])");
    await notes.keyboard.press('Shift+Enter');
    await notes.locator('.output_stdout', { hasText: `run in ${python.id}` }).waitFor();
    const channels = `${base.replace('http', 'ws')}/api/kernels/`;
    expect(sockets.filter((url) => url.startsWith(channels))).toHaveLength(1);
  });
});

const application = 'an application of Next.js by %s: client navigation, and what its server renders';
test.each(['host', 'path'] as const)(application, { timeout: slow }, async (form) => {
  const port = form === 'host' ? 3000 : 3001;
  const base = form === 'host' ? byHost(node, port) : byToldPath(node, port);
  // One was built for the root of a host, the other where its path is not known yet: next build would take minutes on
  // an emulated CPU.
  const build = form === 'host' ? 'root' : 'below';
  const dir = `/tmp/next-${build}`;
  await new GuestFiles(mesh.now, node).write(`${dir}.tar.gz`, createReadStream(join(nextApp, `${build}.tar.gz`)));
  const place = `grep -rlF /__base_path__ .next server.js | xargs -r sed -i 's|/__base_path__|${toldPath(node, port)}|g'`;
  await node.sh(`mkdir ${dir} && cd ${dir} && tar -xzf ${dir}.tar.gz && ${place}`, { timeoutMs: slow });
  await node.start('node', ['server.js'], { cwd: dir, env: { PORT: `${port}`, HOSTNAME: '0.0.0.0' } });
  await listening(node, port);
  await visit(browser, `next-by-${form}`, async (page) => {
    await page.goto(base);
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    const documents: string[] = [];
    page.on('request', (request) => request.isNavigationRequest() && documents.push(request.url()));
    await page.getByRole('link', { name: 'About' }).click();
    await page.getByRole('heading', { name: 'About' }).waitFor();
    expect(page.url()).toBe(`${base}/about`);
    expect(await page.locator('#sandbox').textContent()).toBe(node.id);
    await page.getByRole('button').click();
    await page.getByText('clicked 1 times').waitFor();
    await page.goBack();
    await page.getByRole('heading', { name: 'Home' }).waitFor();
    expect(documents).toEqual([]); // The page navigated by itself: no document was loaded.
    await page.goto(`${base}/about`);
    await page.getByRole('heading', { name: 'About' }).waitFor();
  });
});

endsWithoutLeaks(mesh);
