import { createServer as createHttpServer } from 'node:http';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { closeHttp, hostAndPort, listenAt } from './listen.ts';
import { tempDir } from './testkit/temp-dir.ts';

test.each([
  ['127.0.0.1:80', '127.0.0.1', 80],
  ['[::1]:8080', '::1', 8080],
  ['localhost:0', 'localhost', 0],
])('%s is host and port', (address, host, port) => {
  expect(hostAndPort(address)).toEqual({ host, port });
});

test.each(['127.0.0.1:0', '[::1]:0'])('a listener at %s has the port it tells', async (address) => {
  const server = createServer((socket) => socket.end());
  const port = await listenAt(server, address);
  await once(connect(port, hostAndPort(address).host), 'connect');
  server.close();
});

test('a path is bound too, and a second listener there is refused', async () => {
  await using dir = await tempDir();
  const address = `unix:${join(dir.path, 'a.sock')}`;
  const [first, second] = [createServer(), createServer()];
  expect(await listenAt(first, address)).toBe(0);
  await expect(listenAt(second, address)).rejects.toMatchObject({ code: 'EADDRINUSE' });
  first.close();
});

test('HTTP ends with requests under way, and where it never listened', async () => {
  const server = createHttpServer(() => undefined);
  const port = await listenAt(server, '127.0.0.1:0');
  const cut = fetch(`http://127.0.0.1:${port}/`);
  await once(server, 'request');
  await closeHttp(server);
  await expect(cut).rejects.toThrow();
  await closeHttp(createHttpServer());
});
