// Connections that serve many requests, on both sides, and when they must not.
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { answering, exchange, rawClient, serving, startEdge, startGuest } from './edge.ts';

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
const statusOf = (response: string) => Number(response.slice(9, 12));
const count = (text: string, part: string) => text.split(part).length - 1;

// Answers with the path that was asked for.
const echoPath = serving((head) => {
  const path = head.split(' ')[1]!;
  return `HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`;
});

type Edge = Awaited<ReturnType<typeof startEdge>>;

const request = (edge: Edge, port: number, path = '/', method = 'GET', more = '') =>
  `${method} /proxy/${edge.sandboxId}/${port}${path} HTTP/1.1\r\nHost: b\r\n${more}\r\n`;

// Sends one request after another on one connection, each once the one before was answered.
async function inTurn(edge: Edge, port: number, requests: number): Promise<string> {
  const client = rawClient(edge.port);
  for (let n = 1; n <= requests; n++) {
    client.socket.write(request(edge, port, `/${n}`));
    await eventually(`answer ${n}`, () => count(client.text(), 'HTTP/1.1 ') === n && client.text().endsWith(`/${n}`));
  }
  client.socket.destroy();
  return client.text();
}

test('one connection of a client and one to the guest serve many requests', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(echoPath);
  expect(await inTurn(edge, guest.port, 20)).not.toContain('Connection');
  expect(guest.sockets).toHaveLength(1);
  expect(guest.received()).not.toContain('Connection');
});

test('requests that come ahead of their turn are answered in order, whoever answers them', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(echoPath);
  const health = 'GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n';
  const unknown = 'GET /nowhere HTTP/1.1\r\nHost: b\r\n\r\n';
  const requests = Array.from({ length: 500 }, (_, n) =>
    n % 5 === 1 ? health : n % 5 === 2 ? unknown : request(edge, guest.port, `/${n}/`),
  );
  const answers = await exchange(edge.port, `${requests.join('')}GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n`);
  const seen = answers.match(/\/\d+\/|"status"|ROUTE_NOT_FOUND/g);
  const due = requests.map((_, n) => (n % 5 === 1 ? '"status"' : n % 5 === 2 ? 'ROUTE_NOT_FOUND' : `/${n}/`));
  expect(seen).toEqual([...due, '"status"']);
});

test('a request behind a body of either framing is a request of its own', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.on('data', (bytes: Buffer) => {
      for (const _ of bytes.toString('latin1').matchAll(/wren|GET/g)) socket.write(ok);
    });
  });
  const post = (more: string) => request(edge, guest.port, '/', 'POST', more);
  const answers = await exchange(
    edge.port,
    `${post('Content-Length: 4\r\n')}wren` +
      // Old clients send an empty line behind a body.
      `\r\n${post('Transfer-Encoding: chunked\r\n')}4\r\nwren\r\n0\r\n\r\n` +
      request(edge, guest.port, '/', 'GET', 'Connection: close\r\n'),
  );
  expect(count(answers, 'HTTP/1.1 200 OK')).toBe(3);
});

test('a client that asks for the end of its connection gets it', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(echoPath);
  const answer = await rawClient(edge.port, request(edge, guest.port, '/', 'GET', 'Connection: CLOSE\r\n')).closed;
  expect(answer).toContain('Connection: close\r\n');
});

test('HTTP/1.0 is served one request a connection, without chunks or interim answers', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(
    serving((head) => `HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n${head.slice(-3)}`),
  );
  const get = request(edge, guest.port).replace('HTTP/1.1', 'HTTP/1.0');
  const answer = await rawClient(edge.port, get + get).closed;
  expect(answer).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  expect(count(answer, 'HTTP/1.1 ')).toBe(1);
  expect(guest.received()).toMatch(/^GET \/ HTTP\/1\.0\r\n/);
});

test('a refusal of a whole request leaves the connection, one of a malformed request ends it', async () => {
  await using edge = await startEdge();
  const client = rawClient(edge.port, 'GET /nowhere HTTP/1.1\r\nHost: b\r\n\r\n');
  await eventually('404', () => statusOf(client.text()) === 404);
  client.socket.write(
    'GET /nowhere HTTP/1.1\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n',
  );
  expect((await client.closed).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 404', 'HTTP/1.1 404', 'HTTP/1.1 400']);
});

test('a request whose body was not read ends its connection', async () => {
  await using edge = await startEdge();
  const get = 'GET /healthz HTTP/1.1\r\nHost: b\r\n';
  const answers = await rawClient(edge.port, `${get}Content-Length: 9\r\n\r\n${get}\r\n`).closed;
  expect(count(answers, 'HTTP/1.1 ')).toBe(1);
});

test.each([
  ['asks for its end', 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n'],
  ['is of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n'],
  ['is followed by more', `${ok}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`],
  ['has a body where there is none', 'HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil'],
])('a guest`s connection is not used again when the response %s', async (_what, response) => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => response));
  const client = rawClient(edge.port, request(edge, guest.port) + request(edge, guest.port));
  await eventually('two answers', () => count(client.text(), 'HTTP/1.1 2') === 2);
  expect(guest.sockets).toHaveLength(2);
  expect(client.text()).not.toContain('evil');
  client.socket.destroy();
});

test('a guest that speaks out of turn loses its connection and what it said', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(echoPath);
  const client = rawClient(edge.port, request(edge, guest.port, '/1'));
  await eventually('the first answer', () => client.text().endsWith('/1'));
  guest.sockets[0]!.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil');
  await eventually('its connection is closed', () => guest.sockets[0]!.destroyed || guest.sockets[0]!.readableEnded);
  client.socket.write(request(edge, guest.port, '/2'));
  await eventually('the second answer', () => client.text().endsWith('/2'));
  expect(guest.sockets).toHaveLength(2);
  expect(client.text()).not.toContain('evil');
  client.socket.destroy();
});

test('an answer that comes before the whole request ends both connections', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving(() => ok));
  const client = rawClient(edge.port, request(edge, guest.port, '/', 'POST', 'Content-Length: 1000\r\n'));
  await eventually('the answer', () => client.text().endsWith('hello'));
  expect(client.text()).toContain('Connection: close');
  await eventually('the guest is left', () => guest.sockets[0]!.readableEnded || guest.sockets[0]!.destroyed);
  client.socket.write(request(edge, guest.port));
  expect(count(await client.closed, 'HTTP/1.1 ')).toBe(1);
});

// The connection is closed under the second request, as by a server that has had enough of waiting.
const closingLater = (say: string) =>
  serving((head, socket) => {
    if (head.includes(' /1 ')) return 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/1';
    if (count(head, 'again') > 0) return ok;
    socket.end(say);
    return '';
  });

test('a kept connection that turns out to be closed costs a GET nothing', async () => {
  await using edge = await startEdge();
  let isFirst = true;
  await using guest = await startGuest((socket) => {
    if (isFirst) closingLater('')(socket);
    else echoPath(socket);
    isFirst = false;
  });
  expect(await inTurn(edge, guest.port, 3)).not.toContain('502');
  expect(guest.sockets).toHaveLength(2);
  expect(count(guest.received(), 'GET /2 ')).toBe(2);
});

test('a request is not sent again once the guest has said anything', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(closingLater('HTTP/1.1 2'));
  const client = rawClient(edge.port, request(edge, guest.port, '/1'));
  await eventually('the first answer', () => client.text().endsWith('/1'));
  client.socket.write(request(edge, guest.port, '/2'));
  await eventually('502', () => client.text().includes('HTTP/1.1 502'));
  expect(count(guest.received(), 'GET /2 ')).toBe(1);
  client.socket.destroy();
});

test('a request that changes something gets a new connection, and is sent once', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(closingLater(''));
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'get', 'PROPFIND']) {
    const client = rawClient(edge.port, request(edge, guest.port, '/1'));
    await eventually('the first answer', () => client.text().endsWith('/1'));
    const sockets = guest.sockets.length;
    client.socket.write(request(edge, guest.port, '/2', method));
    await eventually('502', () => client.text().includes('HTTP/1.1 502'));
    expect(guest.sockets.length - sockets).toBe(1);
    expect(count(guest.received(), `${method} /2 `)).toBe(1);
    client.socket.destroy();
  }
});

test('a sandbox that changes its state has no kept connections, and what runs goes on', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(serving((head) => (head.includes('/mute') ? '' : ok)));
  const mute = rawClient(edge.port, request(edge, guest.port, '/mute'));
  await eventually('it was asked', () => guest.received().includes('/mute'));
  await exchange(edge.port, request(edge, guest.port, '/', 'GET', 'Connection: close\r\n'));
  await eventually('one is kept', () => edge.connections.idleCount === 1);
  edge.announceChange(edge.sandboxId, SandboxState.PAUSING);
  await eventually('none is kept', () => edge.connections.idleCount === 0);
  await eventually('it is closed', () => guest.sockets[1]!.readableEnded || guest.sockets[1]!.destroyed);
  guest.sockets[0]!.write(ok);
  await eventually('the other is answered', () => mute.text().endsWith('hello'));
  mute.socket.destroy();
});

test.each([SandboxState.PAUSED, SandboxState.DESTROYING, SandboxState.DESTROYED, SandboxState.ERROR])(
  'what runs in a sandbox that is gone is cut: state %s',
  async (state) => {
    await using edge = await startEdge();
    await using guest = await startGuest(() => undefined);
    const mute = rawClient(edge.port, request(edge, guest.port));
    await eventually('the guest was asked', () => guest.received().length > 0);
    edge.announceChange(edge.sandboxId, state);
    await eventually('502', () => statusOf(mute.text()) === 502);
    mute.socket.destroy();
  },
);

test('connections are kept up to a number for each place, a number in all, and for a time', async () => {
  const limits = { maxIdlePerPort: 2, maxIdle: 3, idleMs: 300 };
  await using edge = await startEdge({ connections: limits });
  const guests = await Promise.all([0, 1].map(() => startGuest((socket) => void socket.once('data', () => undefined))));
  const open = guests.flatMap(({ port }) => [1, 2, 3].map(() => rawClient(edge.port, request(edge, port))));
  await eventually('all were asked', () => guests.every(({ sockets }) => sockets.length === 3));
  let mostKept = 0;
  for (const socket of guests.flatMap(({ sockets }) => sockets)) {
    socket.write(ok);
    mostKept = Math.max(mostKept, edge.connections.idleCount);
  }
  await eventually('all are answered', () => {
    mostKept = Math.max(mostKept, edge.connections.idleCount);
    return open.every((client) => client.text().endsWith('hello'));
  });
  expect(mostKept).toBeLessThanOrEqual(3);
  await eventually('none is kept for longer', () => edge.connections.idleCount === 0);
  for (const { socket } of open) socket.destroy();
  for (const guest of guests) await guest[Symbol.asyncDispose]();
});

test('a sandbox that is sent too much is 503, and its neighbour is served', async () => {
  await using edge = await startEdge({ maxPerSandbox: 3 });
  await using guest = await startGuest(serving((head) => (head.includes('/mute') ? '' : ok)));
  const mute = [1, 2, 3].map(() => rawClient(edge.port, request(edge, guest.port, '/mute')));
  await eventually('all three were asked', () => count(guest.received(), '/mute') === 3);
  const refused = await exchange(edge.port, request(edge, guest.port, '/', 'GET', 'Connection: close\r\n'));
  expect(statusOf(refused)).toBe(503);
  expect(refused).toContain('SANDBOX_BUSY');
  expect(refused).toContain('Retry-After: 1\r\n');
  const neighbour = edge.addSandbox();
  const asked = request(edge, guest.port, '/', 'GET', 'Connection: close\r\n').replace(edge.sandboxId, neighbour);
  expect(statusOf(await exchange(edge.port, asked))).toBe(200);
  mute[0]!.socket.resetAndDestroy();
  await eventually('there is room again', async () => {
    const answer = await exchange(edge.port, request(edge, guest.port, '/', 'GET', 'Connection: close\r\n'));
    return statusOf(answer) === 200;
  });
  for (const { socket } of mute) socket.destroy();
});

test('where there is no room the client that waits longest makes it, and those at work stay', async () => {
  await using edge = await startEdge({ maxConnections: 3 });
  await using guest = await startGuest(() => undefined);
  const idle = rawClient(edge.port, 'GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n');
  await eventually('the first waits', () => statusOf(idle.text()) === 200);
  const busy = [1, 2].map(() => rawClient(edge.port, request(edge, guest.port)));
  await eventually('two are at work', () => guest.sockets.length === 2);
  const next = rawClient(edge.port, request(edge, guest.port));
  await idle.closed;
  await eventually('the next is at work', () => guest.sockets.length === 3);
  expect(statusOf(await exchange(edge.port, 'GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n'))).toBe(503);
  for (const { socket } of [...busy, next]) socket.destroy();
});

test('a client that has sent all it will and listens is answered', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(echoPath);
  const client = rawClient(edge.port);
  client.socket.end(request(edge, guest.port, '/1') + request(edge, guest.port, '/2'));
  const answers = await client.closed;
  expect(count(answers, 'HTTP/1.1 200 OK')).toBe(2);
  expect(answers).toMatch(/\/2$/);
});

test('a client that reads no answers is sent no more of them', async () => {
  await using edge = await startEdge();
  const big = Buffer.alloc(1 << 20, 'x').toString('latin1');
  await using guest = await startGuest(serving(() => `HTTP/1.1 200 OK\r\nContent-Length: ${big.length}\r\n\r\n${big}`));
  const client = rawClient(edge.port);
  client.socket.pause();
  client.socket.write(request(edge, guest.port).repeat(400));
  let before = -1;
  await eventually('the guest is asked nothing more', () => {
    const asked = count(guest.received(), 'GET / ');
    const isStill = asked > 0 && asked === before;
    before = asked;
    return isStill;
  });
  expect(before).toBeLessThan(50);
  client.socket.destroy();
});

test('a connection that served requests may then change its protocol', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.on('data', (bytes: Buffer) => {
      const text = bytes.toString('latin1');
      if (text.includes('Upgrade')) socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\n\r\n');
      else socket.write(text.startsWith('GET') ? ok : text);
    });
  });
  const client = rawClient(edge.port, request(edge, guest.port));
  await eventually('the first answer', () => client.text().endsWith('hello'));
  client.socket.write(request(edge, guest.port, '/', 'GET', 'Connection: upgrade\r\nUpgrade: echo\r\n'));
  await eventually('the change', () => client.text().includes(' 101 '));
  client.socket.write('wren');
  await eventually('the echo', () => client.text().endsWith('wren'));
  expect(guest.sockets).toHaveLength(1);
  client.socket.destroy();
});

test('an edge that stops ends connections that wait, at once', async () => {
  await using edge = await startEdge({ drainMs: 60_000 });
  const client = rawClient(edge.port, 'GET /healthz HTTP/1.1\r\nHost: b\r\n\r\n');
  await eventually('it waits', () => statusOf(client.text()) === 200);
  await edge.server.close();
  expect(await client.closed).toContain('200 OK');
});

test('kept connections close with the guest`s end of them', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  expect(statusOf(await exchange(edge.port, request(edge, guest.port, '/', 'GET', 'Connection: close\r\n')))).toBe(200);
  await eventually('nothing is kept', () => edge.connections.idleCount === 0);
});
