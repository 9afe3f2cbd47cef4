import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { Health } from '@wrenn/proto/grpc/health/v1/health';
import { expect, test } from 'vitest';

import { GuestSockets } from './guest-sockets.ts';

// As a guest that was killed: it takes connections and bytes, and never says or ends anything.
async function silentServer() {
  const accepted: Socket[] = [];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket.on('error', () => undefined).resume());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    accepted,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        for (const socket of accepted) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

test('cuts the connection of a closed lane whose other side never ends it', async () => {
  await using guest = await silentServer();
  const sockets = new GuestSockets('127.0.0.1', guest.port);
  const lanes = new Lanes(`127.0.0.1:${guest.port}`, 'guest');
  const call = lanes.client('control', Health).check({}, inMs(60_000));
  const failed = call.catch((error: unknown) => error);
  await eventually('it is connected', () => guest.accepted.length === 1);
  expect(sockets.count).toBe(1);
  lanes.close();
  sockets.close();
  await eventually('nothing is open', () => sockets.count === 0);
  await failed;
});

test('lets connections to elsewhere, and later ones, alone', async () => {
  await using guest = await silentServer();
  await using other = await silentServer();
  const sockets = new GuestSockets('127.0.0.1', guest.port);
  const elsewhere = connect(other.port, '127.0.0.1');
  const early = connect(guest.port, '127.0.0.1');
  await eventually('both are connected', () => guest.accepted.length + other.accepted.length === 2);
  sockets.close();
  const late = connect(guest.port, '127.0.0.1');
  await eventually('the early one is cut', () => early.destroyed);
  expect([elsewhere.destroyed, late.destroyed]).toEqual([false, false]);
  elsewhere.destroy();
  late.destroy();
});
