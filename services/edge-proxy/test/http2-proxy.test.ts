// Why http2-proxy, the library that was asked for, is not what the edge is made of: docs/decisions/0007.
import { type Server, createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

import http2Proxy from 'http2-proxy';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { exchange, guestAddress, rawClient, startEdge, startGuest } from './edge.ts';

async function startHttp2Proxy(port: number) {
  const to = { hostname: guestAddress, port };
  const server: Server = createServer((request, response) => {
    void http2Proxy.web(request, response, to, (error) => {
      if (!error) return;
      response.statusCode = 502;
      response.end();
    });
  });
  server.on('upgrade', (request, socket, head) => {
    void http2Proxy.ws(request, socket as Socket, head, to, (error) => void (error && socket.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

const body = 'GET /smuggled HTTP/1.1\r\n';
const withBody = (path: string) => `GET ${path} HTTP/1.1\r\nHost: a\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

test('http2-proxy declares the body of a GET and does not send it, so the guest takes what follows for it', async () => {
  await using guest = await startGuest(() => undefined);
  await using proxy = await startHttp2Proxy(guest.port);
  const client = rawClient(proxy.port, withBody('/'));
  await eventually('the guest was asked', () => guest.received().includes('\r\n\r\n'));
  // A later request on the same proxy shows that all that was to be sent has been.
  const later = rawClient(proxy.port, 'GET /later HTTP/1.1\r\nHost: a\r\n\r\n');
  await eventually('and asked again', () => guest.received().includes('/later'));
  expect(guest.received().toLowerCase()).toContain(`content-length: ${body.length}\r\n`);
  expect(guest.received()).not.toContain('smuggled');
  for (const { socket } of [client, later]) socket.destroy();
});

test('the edge sends what it declares', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.on('data', (bytes: Buffer) => {
      if (bytes.includes('smuggled')) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  const answer = await exchange(edge.port, withBody(`/proxy/${edge.sandboxId}/${guest.port}/`));
  expect(answer).toMatch(/^HTTP\/1\.1 200 [^]*ok$/);
  expect(guest.received()).toMatch(new RegExp(`Content-Length: ${body.length}\r\n[^]*\r\n\r\n${body}$`));
});

test.each([
  ['websocket', true, true],
  ['WebSocket', false, true],
  ['echo', false, true],
])('Upgrade: %s passes http2-proxy: %s, the edge: %s', async (protocol, byLibrary, byEdge) => {
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`);
    });
  });
  await using edge = await startEdge();
  await using proxy = await startHttp2Proxy(guest.port);
  const upgrade = (path: string) =>
    `GET ${path} HTTP/1.1\r\nHost: b\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n`;
  const results: boolean[] = [];
  for (const [port, path] of [
    [proxy.port, '/'] as const,
    [edge.port, `/proxy/${edge.sandboxId}/${guest.port}/`] as const,
  ]) {
    const client = rawClient(port, upgrade(path));
    let isClosed = false;
    void client.closed.then(() => (isClosed = true));
    await eventually('it is answered or closed', () => client.text().includes('\r\n\r\n') || isClosed);
    results.push(client.text().includes(' 101 '));
    client.socket.destroy();
  }
  expect(results).toEqual([byLibrary, byEdge]);
});
