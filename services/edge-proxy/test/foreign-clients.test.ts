// Clients that others wrote, each with habits of its own, many requests at once: none of them fails.
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { mkdtempDisposable, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { guestAddress, startEdge } from './edge.ts';

const count = 320;
const bodyBytes = 30_000;
const limitMs = 60_000;
const body = Buffer.alloc(bodyBytes, 'wrenn');

// Answers with as much as it was sent, or with `body`.
function serve(request: IncomingMessage, response: ServerResponse): void {
  if (request.method === 'POST') {
    response.setHeader('Content-Length', request.headers['content-length'] ?? '0');
    request.pipe(response);
  } else response.end(request.url === '/tiny' ? 'hello' : body);
}

const server = createServer({ keepAliveTimeout: limitMs }, serve);
let edge: Awaited<ReturnType<typeof startEdge>>;
let guestPort: number;
beforeAll(async () => {
  edge = await startEdge();
  await new Promise<void>((resolve) => server.listen(0, guestAddress, resolve));
  guestPort = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  server.closeAllConnections();
  server.close();
  await edge?.[Symbol.asyncDispose]();
});

const url = (path: string) => `http://127.0.0.1:${edge.port}/proxy/${edge.sandboxId}/${guestPort}${path}`;
const run = (program: string, ...args: string[]) => runProgram(program, args, { timeoutMs: limitMs });
const all = String(count);

// HTTP/1.0, and its keep-alive where it is asked for.
test.each([
  ['a connection each', []],
  ['connections kept', ['-k']],
])('ab, %s', { timeout: limitMs }, async (_title, options) => {
  for (const path of ['/tiny', '/large']) {
    const report = await run('ab', '-q', '-n', all, '-c', '16', ...options, url(path));
    expect(report).toMatch(new RegExp(`Complete requests: +${count}\\nFailed requests: +0\\n`));
    expect(report).not.toContain('Non-2xx');
  }
});

test.each([
  ['one request at a time', ['-m', '1']],
  ['pipelined', ['-m', '8']],
])('h2load by HTTP/1.1, %s', { timeout: limitMs }, async (_title, options) => {
  await using dir = await mkdtempDisposable(join(tmpdir(), 'wrenn-h2load-'));
  const file = join(dir.path, 'body');
  await writeFile(file, body);
  for (const args of [[url('/tiny')], [url('/large')], ['-d', file, url('/tiny')]]) {
    const report = await run('h2load', '--h1', '-n', all, '-c', '16', '-t', '1', ...options, ...args);
    expect(report).toContain(`${count} done, ${count} succeeded, 0 failed, 0 errored, 0 timeout`);
    expect(report).toContain(`status codes: ${count} 2xx, 0 3xx, 0 4xx, 0 5xx`);
  }
});

test('wrk, by path and by host name', { timeout: limitMs }, async () => {
  const host = `${guestPort}-${edge.sandboxId}.localhost`;
  for (const args of [[url('/large')], ['-H', `Host: ${host}`, `http://127.0.0.1:${edge.port}/tiny`]]) {
    const report = await run('wrk', '-t', '1', '-c', '32', '-d', '2s', ...args);
    expect(report).toMatch(/[1-9]\d* requests in/);
    expect(report).not.toMatch(/Socket errors|Non-2xx/);
  }
});
