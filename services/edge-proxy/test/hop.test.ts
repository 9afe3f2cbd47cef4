// Two edges of one mesh: one that clients reach, and the one of the host that has the guest.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { HopDialer } from '../src/adapters/hop-dialer.ts';
import { HopServer } from '../src/adapters/hop-server.ts';
import { answering, exchange, guestAddress, rawClient, serving, startEdge, startGuest } from './edge.ts';

const log = openLog('test', 'silent');
const secret = randomBytes(32);
const nowhere = { network: '192.0.2.0', prefixLength: 24 }; // What dials for itself is refused.

// `front` serves clients and has no guests; `host` has them, and takes `front` to them.
async function startPair({ frontSecret = secret } = {}) {
  const host = await startEdge({ hostId: 'host-b', reach: { isHere: (id) => id === 'host-b' } });
  const dialled: string[] = [];
  const hop = new HopServer({
    secret,
    log,
    askTimeoutMs: 500,
    dial: async (id, port, signal) => {
      dialled.push(`${id}:${port}`);
      return (await host.dialer.dial(id, port, signal)).socket;
    },
  });
  const hopPort = await hop.listen('127.0.0.1:0');
  const hops = new HopDialer(new Map([['host-b', `127.0.0.1:${hopPort}`]]), frontSecret);
  const front = await startEdge({ hostId: 'host-b', range: nowhere, reach: { isHere: () => false, hops } });
  host.guests.set(front.sandboxId, guestAddress);
  return {
    front,
    host,
    hop,
    hopPort,
    dialled,
    get: (port: number, rest = '') =>
      exchange(
        front.port,
        `GET /proxy/${front.sandboxId}/${port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${rest}\r\n`,
      ),
    async [Symbol.asyncDispose]() {
      await front[Symbol.asyncDispose]();
      await hop.close();
      await host[Symbol.asyncDispose]();
    },
  };
}

test('a request goes through both, and its connection serves the next', async () => {
  await using pair = await startPair();
  await using guest = await startGuest(serving(() => 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'));
  for (let n = 0; n < 3; n++) expect(await pair.get(guest.port)).toMatch(/^HTTP\/1.1 200 [^]*hello$/);
  expect(pair.dialled).toEqual([`${pair.front.sandboxId}:${guest.port}`]);
  expect(guest.sockets).toHaveLength(1);
  expect(guest.received()).toContain('X-Forwarded-For: 127.0.0.1\r\n');
});

test('a body without a length ends with the guest, and one that breaks off is cut', async () => {
  await using pair = await startPair();
  const body = 'x'.repeat(1 << 20);
  await using whole = await startGuest(answering(`HTTP/1.1 200 OK\r\n\r\n${body}`));
  await using broken = await startGuest((socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\nhalf', () => socket.resetAndDestroy()));
  });
  expect((await pair.get(whole.port)).endsWith(body)).toBe(true);
  const client = rawClient(
    pair.front.port,
    `GET /proxy/${pair.front.sandboxId}/${broken.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`,
  );
  let error: unknown;
  client.socket.on('error', (why) => (error = why));
  await client.closed;
  expect(error).toMatchObject({ code: 'ECONNRESET' });
});

test('a body passes both at the pace of its reader, every byte', async () => {
  await using pair = await startPair();
  const body = randomBytes(64 << 20);
  let given = 0;
  function* answer() {
    yield `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`;
    for (const step = 64 * 1024; given < body.length; given += step) yield body.subarray(given, given + step);
  }
  await using guest = await startGuest(
    (socket) => void socket.once('data', () => Readable.from(answer()).pipe(socket)),
  );
  const client = connect(pair.front.port, '127.0.0.1');
  client.write(`GET /proxy/${pair.front.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
  await once(client, 'readable');
  await eventually('nothing moves while nobody reads', async () => {
    const before = given;
    await sleep(200);
    return given === before;
  });
  expect(given).toBeLessThan(body.length);
  const bytes = await buffer(client);
  expect(bytes.subarray(bytes.indexOf('\r\n\r\n') + 4).equals(body)).toBe(true);
});

test('a WebSocket passes both ways, and each side’s end by itself', async () => {
  await using pair = await startPair();
  const accepting = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write(accepting);
      socket.on('data', (bytes) => socket.write(bytes));
    });
    socket.on('end', () => socket.end('bye'));
  });
  const offer = 'Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const head = `GET /proxy/${pair.front.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n${offer}`;
  const client = rawClient(pair.front.port, head);
  await eventually('the protocol is changed', () => client.text().includes('101'));
  client.socket.write('ping');
  await eventually('it is back', () => client.text().endsWith('ping'));
  client.socket.end();
  expect(await client.closed).toMatch(/pingbye$/);
});

test('what the host’s edge is refused is what the client is told', async () => {
  await using pair = await startPair();
  expect(await pair.get(1)).toContain('"NOTHING_LISTENS"');
  pair.host.guests.delete(pair.front.sandboxId);
  pair.host.announceChange(pair.front.sandboxId);
  await eventually('it is gone', async () => (await pair.get(2)).includes('"NOT_FOUND"'));
});

test('a host that is not there, and one that no edge leads to, are 503', async () => {
  await using pair = await startPair();
  await pair.hop.close();
  expect(await pair.get(80)).toContain('"SERVICE_UNAVAILABLE"');
  await using alone = await startEdge({ hostId: 'host-c', reach: { isHere: (id) => id === 'host-a' } });
  const request = `GET /proxy/${alone.sandboxId}/80/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
  expect(await exchange(alone.port, request)).toContain('"SERVICE_UNAVAILABLE"');
});

test('an edge without the secret reaches nothing', async () => {
  await using pair = await startPair({ frontSecret: randomBytes(32) });
  expect(await pair.get(80)).toContain('"SERVICE_UNAVAILABLE"');
  expect(pair.dialled).toEqual([]);
});

test.each([
  ['plain text', 'CONNECT cl-0123456789abcdefghijklmno:80 HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['nothing', ''],
])('whoever sends %s is cut', async (_what, text) => {
  await using pair = await startPair();
  const socket = connect({ port: pair.hopPort, host: '127.0.0.1' });
  socket.on('error', () => undefined).write(text);
  await new Promise((resolve) => socket.resume().once('close', resolve));
  expect(pair.dialled).toEqual([]);
});

test('whoever listens between the two reads nothing', async () => {
  await using pair = await startPair();
  await using guest = await startGuest(answering('HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret'));
  const seen: Buffer[] = [];
  const between = createServer((socket) => {
    const onward = connect({ port: pair.hopPort, host: '127.0.0.1' });
    for (const [from, to] of [
      [socket, onward],
      [onward, socket],
    ] as const) {
      from.on('error', () => to.destroy());
      from.on('data', (bytes: Buffer) => seen.push(bytes));
      from.pipe(to);
    }
  });
  await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
  const { port } = between.address() as AddressInfo;
  const hops = new HopDialer(new Map([['host-b', `127.0.0.1:${port}`]]), secret);
  await using front = await startEdge({ hostId: 'host-b', range: nowhere, reach: { isHere: () => false, hops } });
  pair.host.guests.set(front.sandboxId, guestAddress);
  const request = `GET /proxy/${front.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;
  expect(await exchange(front.port, request)).toMatch(/secret$/);
  expect(seen.length).toBeGreaterThan(0);
  expect(Buffer.concat(seen).includes('secret')).toBe(false);
  between.close();
});
