// Clients in number that are slow, or too fast, against an edge in a process of its own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { type RawClient, exchange, rawClient, serving, startGuest } from './edge.ts';

const slowCount = 5000;
const atOnce = 500; // What a listening socket holds until it is accepted.
const mostBytesEach = 32 * 1024;
const limitMs = 120_000;

async function startEdgeProcess() {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'edge-program.ts')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [told] = (await once(child.stdout, 'data')) as [Buffer];
  const { port, sandboxId } = JSON.parse(told.toString()) as { port: number; sandboxId: string };
  return {
    port,
    sandboxId,
    memoryBytes: () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) * 1024,
    async [Symbol.asyncDispose]() {
      child.kill();
      await once(child, 'exit');
    },
  };
}

test(
  '5,000 clients whose heads do not end cost little, are sent away, and keep nobody out',
  { timeout: limitMs },
  async () => {
    await using edge = await startEdgeProcess();
    await using guest = await startGuest(serving(() => 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'));
    const get = () =>
      exchange(
        edge.port,
        `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
      );
    for (let n = 0; n < 200; n++) expect(await get()).toContain('200 OK');
    const beforeBytes = edge.memoryBytes();
    const slow: RawClient[] = [];
    while (slow.length < slowCount) {
      const some = Array.from({ length: atOnce }, () => rawClient(edge.port, 'GET / HTTP/1.1\r\nHost: a\r\n'));
      await Promise.all(some.map(({ socket }) => once(socket, 'connect')));
      slow.push(...some);
      expect(await get()).toContain('200 OK');
    }
    const trickle = setInterval(() => slow.forEach(({ socket }) => socket.writable && socket.write('X')), 2000);
    for (let n = 0; n < 20; n++) expect(await get()).toContain('200 OK');
    expect((edge.memoryBytes() - beforeBytes) / slowCount).toBeLessThan(mostBytesEach);
    const answers = await Promise.all(slow.map(({ closed }) => closed));
    clearInterval(trickle);
    expect(answers.filter((answer) => !answer.startsWith('HTTP/1.1 408 '))).toEqual([]);
    expect(await get()).toContain('200 OK');
  },
);

test('100,000 pings of a WebSocket come back, every byte', { timeout: limitMs }, async () => {
  await using edge = await startEdgeProcess();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
      socket.pipe(socket);
    });
  });
  const offer = 'Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
  const client = rawClient(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n${offer}`);
  await eventually('the protocol is changed', () => client.text().endsWith('\r\n\r\n'));
  const from = client.text().length;
  const pings: string[] = [];
  for (let n = 0; n < 100_000; n++) {
    const ping = `\x89\x84${n.toString(36).padStart(8, '.')}`; // The mask, and four bytes.
    pings.push(ping);
    if (!client.socket.write(ping, 'latin1')) await once(client.socket, 'drain');
  }
  const all = pings.join('');
  await eventually('they are back', () => client.text().length >= from + all.length, limitMs);
  expect(client.text().slice(from) === all).toBe(true);
  client.socket.destroy();
});
