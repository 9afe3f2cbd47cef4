import { type Server, type Socket, createServer } from 'node:net';
import { join } from 'node:path';

import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { afterEach, expect, test, vi } from 'vitest';

import { Qmp, type QmpEvent } from './qmp.ts';

const forever = new AbortController().signal;
const alive = () => true;
let cleanup: AsyncDisposableStack = new AsyncDisposableStack();
afterEach(async () => {
  await cleanup.disposeAsync();
  cleanup = new AsyncDisposableStack();
});

// Something that speaks (or misspeaks) QMP on a real unix socket.
async function speaker(answer: (command: { execute: string; id: number }, socket: Socket) => void) {
  const dir = cleanup.use(await tempDir());
  const path = join(dir.path, 'qmp.sock');
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
    socket.on('data', (text) => {
      for (const line of text.toString().split('\n').filter(Boolean)) answer(JSON.parse(line), socket);
    });
  });
  cleanup.defer(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const listen = () => new Promise<void>((resolve) => server.listen(path, resolve));
  return { path, listen };
}

const agreeable = (command: { execute: string; id: number }, socket: Socket) =>
  socket.write(`{"return": {"asked": "${command.execute}"}, "id": ${command.id}}\r\n`);

test('waits for the socket to appear, then gets answers and events', async () => {
  const events: QmpEvent[] = [];
  const { path, listen } = await speaker((command, socket) => {
    socket.write('{"timestamp": {}, "event": "STOP"}\r\n');
    agreeable(command, socket);
  });
  const connecting = Qmp.connect(path, (event) => events.push(event), alive, forever);
  await listen();
  const qmp = await connecting;
  expect(await qmp.execute('query-status')).toEqual({ asked: 'query-status' });
  expect(events).toContainEqual({ name: 'STOP', data: {} });
});

test('gives an error of QEMU to the command it belongs to', async () => {
  const { path, listen } = await speaker((command, socket) => {
    if (command.execute === 'bad') socket.write(`{"error": {"class": "E", "desc": "no such"}, "id": ${command.id}}\n`);
    else agreeable(command, socket);
  });
  await listen();
  const qmp = await Qmp.connect(path, () => {}, alive, forever);
  const [bad, good] = await Promise.allSettled([qmp.execute('bad'), qmp.execute('good')]);
  expect(bad).toMatchObject({ reason: { message: 'QEMU: no such' } });
  expect(good).toMatchObject({ value: { asked: 'good' } });
});

test.each([
  ['garbage', 'hello\n'],
  ['a line without end', 'x'.repeat(2 * 1024 * 1024)],
])('hangs up on %s and fails what waits', async (_what, bytes) => {
  const { path, listen } = await speaker((command, socket) => {
    if (command.execute === 'qmp_capabilities') agreeable(command, socket);
    else socket.write(bytes);
  });
  await listen();
  const qmp = await Qmp.connect(path, () => {}, alive, forever);
  await expect(qmp.execute('anything')).rejects.toThrow('closed');
  await qmp.closed;
});

test('stops waiting for a QEMU that has ended', async () => {
  const { path } = await speaker(agreeable);
  await expect(
    Qmp.connect(
      path,
      () => {},
      () => false,
      forever,
    ),
  ).rejects.toThrow('QEMU ended');
});

test('gives up on a QEMU that does not answer', async () => {
  const { path, listen } = await speaker((command, socket) => {
    if (command.execute === 'qmp_capabilities') agreeable(command, socket);
  });
  await listen();
  const qmp = await Qmp.connect(path, () => {}, alive, forever);
  vi.useFakeTimers();
  try {
    const outcome = expect(qmp.execute('stuck')).rejects.toThrow('did not answer stuck in time');
    await vi.advanceTimersByTimeAsync(6000);
    await outcome;
  } finally {
    vi.useRealTimers();
  }
});
