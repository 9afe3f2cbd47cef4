// Hostile clients and hostile guests, over real sockets.
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { answering, exchange, rawClient, startEdge, startGuest } from './edge.ts';

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
const statusOf = (response: string) => Number(response.slice(9, 12));
const codeOf = (response: string) => JSON.parse(response.slice(response.indexOf('\r\n\r\n') + 4)).error.code;

test('the HTTP/2 preface is 400 and the connection closed', async () => {
  await using edge = await startEdge();
  const answer = await exchange(edge.port, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0');
  expect(statusOf(answer)).toBe(400);
  expect(codeOf(answer)).toBe('HTTP2_REFUSED');
});

test.each([
  ['CL.TE', 'Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG'],
  ['TE.TE', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n'],
  ['TE with a tab', 'Transfer-Encoding:\tchunked\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n'],
  ['CL.CL', 'Content-Length: 0\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\n'],
  ['a bare LF', 'X: a\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a bare CR', 'X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a fold', 'X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a NUL', 'X: \0\r\n\r\n'],
  ['a second Host', 'Host: b\r\n\r\n'],
])('%s is 400, closed, and never reaches the guest', async (_what, rest) => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  const answer = await exchange(
    edge.port,
    `POST /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n${rest}`,
  );
  expect(statusOf(answer)).toBe(400);
  expect(answer).toContain('Connection: close');
  expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
  expect(guest.sockets).toHaveLength(0);
});

test('chunks that are no chunks are 400, and what follows them never reaches the guest', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(() => undefined);
  const head = `POST /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`;
  const answer = await exchange(edge.port, `${head}5\r\nhello0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n`);
  expect(statusOf(answer)).toBe(400);
  await eventually('the guest is left', () => guest.sockets[0]!.destroyed || guest.sockets[0]!.readableEnded);
  expect(guest.received()).not.toContain('smuggled');
});

test('a head that does not come in time is 408, however it trickles', async () => {
  await using edge = await startEdge({ headTimeoutMs: 300 });
  const silent = exchange(edge.port, '');
  const slow = rawClient(edge.port, 'GET / HTTP/1.1\r\nHost: a\r\n');
  const trickle = setInterval(() => slow.socket.writable && slow.socket.write('X: y\r\n'), 20);
  const startMs = performance.now();
  expect(statusOf(await silent)).toBe(408);
  expect(statusOf(await slow.closed)).toBe(408);
  clearInterval(trickle);
  expect(performance.now() - startMs).toBeLessThan(3000);
});

test('a head without end is 431 and costs 16 KiB, not more', async () => {
  await using edge = await startEdge();
  for (const endless of [`GET /${'a'.repeat(1 << 20)}`, `GET / HTTP/1.1\r\nHost: a\r\n${'X: y\r\n'.repeat(100_000)}`]) {
    expect(statusOf(await exchange(edge.port, endless))).toBe(431);
  }
});

test('a head of exactly 16 KiB passes and one byte more does not', async () => {
  await using edge = await startEdge();
  const head = (length: number) => {
    const start = 'GET /healthz HTTP/1.1\r\nHost: b\r\nConnection: close\r\nX: ';
    return `${start}${'y'.repeat(length - start.length - 4)}\r\n\r\n`;
  };
  expect(statusOf(await exchange(edge.port, head(16_384)))).toBe(200);
  expect(statusOf(await exchange(edge.port, head(16_385)))).toBe(431);
});

test('a connection on which nothing happens is closed after the idle time', async () => {
  await using edge = await startEdge({ idleTimeoutMs: 300 });
  await using guest = await startGuest(() => undefined);
  await using stuck = await startGuest((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'));
  const get = (port: number) =>
    exchange(edge.port, `GET /proxy/${edge.sandboxId}/${port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  const [mute, half] = await Promise.all([get(guest.port), get(stuck.port)]);
  expect(statusOf(mute)).toBe(504);
  expect(half).toMatch(/half$/);
  await eventually('the guests are left', () =>
    [...guest.sockets, ...stuck.sockets].every((socket) => socket.destroyed || socket.readableEnded),
  );
});

test.each([
  ['no HTTP at all', 'SSH-2.0-OpenSSH_9.2\r\n\r\n', 502],
  ['a bare LF', 'HTTP/1.1 200 OK\nContent-Length: 0\n\n', 502],
  ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello', 502],
  ['a length and chunks', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n', 502],
  ['a change of protocol nobody asked for', 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n', 502],
  ['a head of 100 KB', `HTTP/1.1 200 OK\r\nX: ${'y'.repeat(100_000)}\r\n\r\n`, 502],
  ['nothing', '', 502],
])('a guest that answers with %s is 502', async (_what, text, status) => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(text));
  const answer = await exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(statusOf(answer)).toBe(status);
});

test('a flood of interim responses is cut', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering('HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000)));
  const answer = await exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(answer.match(/ 102 /g)!.length).toBeLessThanOrEqual(16);
  expect(answer).toContain('HTTP/1.1 502 Bad Gateway');
});

test('what a guest sends beyond its length never reaches the client', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(`${ok}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`));
  const answer = await exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(answer).toMatch(/hello$/);
});

test('a response that breaks off is cut, so that its client can tell', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n');
      setImmediate(() => socket.end());
    });
  });
  const get = fetch(`http://127.0.0.1:${edge.port}/proxy/${edge.sandboxId}/${guest.port}/`).then((answer) =>
    answer.text(),
  );
  await expect(get).rejects.toThrow();
});

test('a thousand connections that say nothing leave room for one that does', async () => {
  await using edge = await startEdge({ headTimeoutMs: 5000 });
  const silent = Array.from({ length: 1000 }, () => rawClient(edge.port));
  await eventually('all are accepted', () => edge.server.connectionCount === 1000);
  const startMs = performance.now();
  expect(statusOf(await exchange(edge.port, 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n'))).toBe(200);
  expect(performance.now() - startMs).toBeLessThan(3000);
  for (const { socket } of silent) socket.destroy();
  await eventually('all are gone', () => edge.server.connectionCount === 0);
});
