// Each failure is told with the sandbox it was of, at a level that is on by default.
import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { answering, exchange, rawClient, startEdge, startGuest } from './edge.ts';
import { type LogLine, recordingLog } from './recording-log.ts';

const get = (id: string, port: number) => `GET /proxy/${id}/${port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`;

const failuresIn = (lines: readonly LogLine[]) => lines.filter(({ code }) => code !== undefined);

test.each<[string, string, Parameters<typeof startGuest>[0]]>([
  ['never answers', 'GUEST_TIMEOUT', () => undefined],
  ['resets', 'GUEST_CLOSED', (socket) => socket.once('data', () => socket.resetAndDestroy())],
  ['sends garbage', 'GUEST_MISBEHAVED', answering('SSH-2.0-OpenSSH_9.2\r\n\r\n')],
  ['sends a head without end', 'GUEST_MISBEHAVED', answering(`HTTP/1.1 200 OK\r\nX: ${'y'.repeat(100_000)}`)],
  ['breaks off', 'GUEST_CLOSED', answering('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')],
])('a guest that %s', async (_what, code, serve) => {
  const { lines, log } = recordingLog();
  await using edge = await startEdge({ log, ...(code === 'GUEST_TIMEOUT' && { idleTimeoutMs: 300 }) });
  await using guest = await startGuest(serve);
  await exchange(edge.port, get(edge.sandboxId, guest.port));
  const where = { sandbox: edge.sandboxId, port: guest.port, client: '127.0.0.1' };
  expect(failuresIn(lines)).toEqual([expect.objectContaining({ level: 'warn', code, ...where })]);
});

test('a port at which nothing listens, and a sandbox that is not there', async () => {
  const { lines, log } = recordingLog();
  await using edge = await startEdge({ log });
  const other = newSandboxId();
  await exchange(edge.port, get(edge.sandboxId, 1));
  await exchange(edge.port, get(other, 1));
  expect(failuresIn(lines)).toEqual([
    expect.objectContaining({ level: 'warn', code: 'NOTHING_LISTENS', sandbox: edge.sandboxId, port: 1 }),
    expect.objectContaining({ level: 'info', code: 'NOT_FOUND', sandbox: other, port: 1 }),
  ]);
});

test('a client that leaves before its answer has come', async () => {
  const { lines, log } = recordingLog();
  await using edge = await startEdge({ log });
  await using guest = await startGuest(() => undefined);
  const client = rawClient(edge.port, get(edge.sandboxId, guest.port));
  await eventually('the guest is asked', () => guest.received() !== '');
  client.socket.resetAndDestroy(); // One that merely ends may wait for its answer.
  await eventually('it is told', () => failuresIn(lines).length > 0);
  const where = { sandbox: edge.sandboxId, port: guest.port };
  expect(failuresIn(lines)).toEqual([expect.objectContaining({ level: 'info', code: 'CLIENT_LEFT', ...where })]);
});

test('a request that is malformed or does not come in full, with its client', async () => {
  const { lines, log } = recordingLog();
  await using edge = await startEdge({ log, headTimeoutMs: 1500 });
  await exchange(edge.port, 'GET / HTTP/1.1\r\nX : a\r\n\r\n');
  await exchange(edge.port, 'GET / HTTP/1.1\r\n');
  const client = '127.0.0.1';
  expect(failuresIn(lines)).toEqual([
    expect.objectContaining({ level: 'info', code: 'BAD_REQUEST', client }),
    expect.objectContaining({ level: 'info', code: 'HEAD_TIMEOUT', client }),
  ]);
});

test('nothing of an exchange that goes well, and of a WebSocket that its client closes', async () => {
  const { lines, log } = recordingLog();
  await using edge = await startEdge({ log });
  await using guest = await startGuest(answering('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'));
  await using tunnel = await startGuest(
    answering('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'),
  );
  await exchange(edge.port, get(edge.sandboxId, guest.port));
  const offer = 'Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  await exchange(edge.port, get(edge.sandboxId, tunnel.port).replace('Connection: close\r\n\r\n', offer));
  expect(failuresIn(lines)).toEqual([]);
});
