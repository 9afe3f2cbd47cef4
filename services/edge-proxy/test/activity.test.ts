import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { rawClient, startEdge, startGuest } from './edge.ts';

const head = (id: string, port: number) =>
  `GET /proxy/${id}/${port}/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
const switched = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

test('bytes through a connection are told of as use of the sandbox, one left open in silence is not', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => socket.write(switched));
  });
  const told = () => edge.reported.length;
  const client = rawClient(edge.port, head(edge.sandboxId, guest.port));
  await eventually('it is open', () => client.text().includes('101'));
  await eventually('its beginning was told of', () => told() > 0);
  // It settles: what moved has been told of.
  let before = -1;
  await eventually('nothing more is told', () => {
    const isQuiet = before === told();
    before = told();
    return isQuiet;
  });
  client.socket.write('ping');
  await eventually('the guest got it', () => guest.received().endsWith('ping'));
  await eventually('what the client sent was told of', () => told() > before);
  before = told();
  guest.sockets[0]?.write('pong');
  await eventually('what the guest sent was told of', () => told() > before);
  expect(new Set(edge.reported)).toEqual(new Set([edge.sandboxId]));
  client.socket.destroy();
});
