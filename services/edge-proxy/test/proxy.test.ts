// The whole way: client, edge, scheduler over gRPC, guest; everything over real sockets.
import { createHash } from 'node:crypto';
import { type Server, createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';

import { newSandboxId } from '@wrenn/kit/ids';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { answering, exchange, guestAddress, rawClient, startEdge, startGuest } from './edge.ts';

const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
const bodyOf = (response: string) => response.slice(response.indexOf('\r\n\r\n') + 4);
const statusOf = (response: string) => Number(response.slice(9, 12));

async function startHttpGuest(handler: ConstructorParameters<typeof Server>[1]) {
  const server = createServer(handler!);
  await new Promise<void>((resolve) => server.listen(0, guestAddress, resolve));
  return {
    server,
    port: (server.address() as AddressInfo).port,
    [Symbol.asyncDispose]: () =>
      new Promise<void>((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}

test('a page of a server in a sandbox is fetched by path and by host', async () => {
  await using edge = await startEdge();
  await using guest = await startHttpGuest((incoming, answer) =>
    answer.end(`${incoming.headers.host} ${incoming.url}`),
  );
  const byPath = await fetch(`http://127.0.0.1:${edge.port}/proxy/${edge.sandboxId}/${guest.port}/a//b%2Fc?d`);
  expect(await byPath.text()).toBe(`localhost:${guest.port} /a//b%2Fc?d`);
  const host = `${guest.port}-${edge.sandboxId}.localhost:${edge.port}`;
  const byHost = await exchange(edge.port, `GET /x HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  expect(bodyOf(byHost)).toContain(`${host} /x`);
});

test('where a guest is is asked once for many requests', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  const answers = await Promise.all(Array.from({ length: 20 }, get));
  expect(answers.every((answer) => bodyOf(answer) === 'hello')).toBe(true);
  expect(edge.lookups()).toBe(1);
});

test('a guest that moved is found at its new address', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  edge.guests.set(edge.sandboxId, '127.0.0.3');
  expect(statusOf(await get())).toBe(502);
  edge.guests.set(edge.sandboxId, guestAddress);
  expect(statusOf(await get())).toBe(200);
});

test('a server that binds late is reached by the request that came before it', async () => {
  await using edge = await startEdge();
  const first = await startGuest(() => undefined);
  await first[Symbol.asyncDispose]();
  const answer = exchange(edge.port, `GET /proxy/${edge.sandboxId}/${first.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  // The first attempt was refused once the edge asks anew where the guest is.
  await eventually('the second attempt', () => edge.lookups() >= 2);
  await using _late = await startGuest(answering(ok), first.port);
  expect(bodyOf(await answer)).toBe('hello');
});

test('a port where nothing listens is 502 after three attempts', async () => {
  await using edge = await startEdge();
  const gone = await startGuest(() => undefined);
  await gone[Symbol.asyncDispose]();
  const startMs = performance.now();
  const answer = await exchange(edge.port, `GET /proxy/${edge.sandboxId}/${gone.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(performance.now() - startMs).toBeGreaterThan(290);
  expect(edge.lookups()).toBe(3);
  expect(statusOf(answer)).toBe(502);
  expect(JSON.parse(bodyOf(answer))).toMatchObject({ error: { code: 'NOTHING_LISTENS' } });
});

test('an address outside the range of guests is never dialled, whoever says it is one', async () => {
  await using edge = await startEdge({ range: { network: '10.11.0.0', prefixLength: 16 } });
  await using guest = await startGuest(answering(ok));
  const misplaced = [
    '127.0.0.2',
    '169.254.169.254',
    '10.12.0.1',
    '10.10.255.255',
    '::ffff:127.0.0.2',
    '::1',
    'localhost',
    '10.11.0.1.example',
  ];
  for (const address of misplaced) {
    const id = newSandboxId();
    edge.guests.set(id, address);
    const answer = await exchange(edge.port, `GET /proxy/${id}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
    expect(statusOf(answer)).toBe(500);
    expect(answer).not.toContain(address);
  }
  expect(guest.sockets).toHaveLength(0);
});

test('a sandbox that is not there, or a port that is closed, is 404', async () => {
  await using edge = await startEdge();
  for (const [path, code] of [
    [`/proxy/${newSandboxId()}/80/`, 'NOT_FOUND'],
    [`/proxy/${edge.sandboxId}/49983/`, 'NOT_FOUND'],
    ['/', 'ROUTE_NOT_FOUND'],
  ]) {
    const answer = await exchange(edge.port, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    expect([statusOf(answer), JSON.parse(bodyOf(answer)).error.code]).toEqual([404, code]);
  }
});

test('the address of a sandbox that changes its state is forgotten at once', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(statusOf(await get())).toBe(200);
  edge.guests.delete(edge.sandboxId);
  expect(statusOf(await get())).toBe(200);
  edge.announceChange(edge.sandboxId);
  await eventually('404', async () => statusOf(await get()) === 404);
});

test('an edge that hears of no changes keeps no address', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering(ok));
  const get = () => exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(statusOf(await get())).toBe(200);
  await edge.stopScheduler();
  await eventually('503', async () => statusOf(await get()) === 503);
});

test('a sandbox that is paused, and not to be woken, is 503', async () => {
  await using edge = await startEdge();
  edge.guests.set(edge.sandboxId, '');
  const answer = await exchange(edge.port, `GET /proxy/${edge.sandboxId}/80/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(statusOf(answer)).toBe(503);
  expect(JSON.parse(bodyOf(answer)).error.code).toBe('SANDBOX_PAUSED');
  expect(answer).toContain('\r\nRetry-After: 10\r\n');
});

test('without its scheduler the edge says 503 and is well itself', async () => {
  await using edge = await startEdge();
  await edge.stopScheduler();
  expect(statusOf(await exchange(edge.port, `GET /proxy/${edge.sandboxId}/80/ HTTP/1.1\r\nHost: a\r\n\r\n`))).toBe(503);
  const health = await exchange(edge.port, 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n');
  expect(statusOf(health)).toBe(200);
});

// Upload and download at once, of more than any buffer holds.
test('a body of 32 MB goes up and comes back unchanged, by length and by chunks', async () => {
  await using edge = await startEdge();
  await using guest = await startHttpGuest((incoming, answer) => {
    answer.writeHead(
      200,
      incoming.headers['content-length'] ? { 'content-length': incoming.headers['content-length'] } : {},
    );
    incoming.pipe(answer);
  });
  const size = 32 * 1024 * 1024;
  const body = Buffer.alloc(size, 'The quick brown wren jumps over the lazy proxy. ');
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  for (const headers of [{ 'content-length': String(size) }, { 'transfer-encoding': 'chunked' }]) {
    const back = await new Promise<Buffer>((resolve, reject) => {
      const path = `/proxy/${edge.sandboxId}/${guest.port}/`;
      const outgoing = request({ port: edge.port, host: '127.0.0.1', method: 'POST', path, headers }, (answer) => {
        const pieces: Buffer[] = [];
        answer.on('data', (piece: Buffer) => pieces.push(piece));
        answer.on('end', () => resolve(Buffer.concat(pieces)));
        answer.on('error', reject);
      });
      outgoing.on('error', reject);
      for (let at = 0; at < size; at += 1 << 20) outgoing.write(body.subarray(at, at + (1 << 20)));
      outgoing.end();
    });
    expect(back.length).toBe(size);
    expect(sha(back)).toBe(sha(body));
  }
});

test('a client that does not read stops the guest, and the edge keeps next to nothing', async () => {
  await using edge = await startEdge();
  let sent = 0;
  let isStopped = false;
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      const piece = Buffer.alloc(65_536);
      const more = () => {
        isStopped = false;
        while (sent < 512 * 1024 * 1024) {
          sent += piece.length;
          if (!socket.write(piece)) break;
        }
        isStopped = true;
      };
      socket.on('drain', more);
      more();
    });
  });
  const client = rawClient(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  client.socket.once('data', () => client.socket.pause());
  let before = -1;
  await eventually('the guest is stopped', () => {
    const isStill = isStopped && sent === before && sent > 1_000_000;
    before = sent;
    return isStill;
  });
  expect(sent).toBeLessThan(64 * 1024 * 1024);
  client.socket.destroy();
});

test('a client that leaves takes its connection to the guest along', async () => {
  await using edge = await startEdge({ halfOpenTimeoutMs: 200 });
  await using guest = await startGuest(() => undefined);
  for (const leave of ['destroy', 'end', 'resetAndDestroy'] as const) {
    const count = guest.sockets.length;
    const client = rawClient(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
    await eventually('the guest was called', () => guest.sockets.length > count);
    client.socket[leave]();
    await eventually(
      `after ${leave} the guest's connection is closed`,
      () => guest.sockets.at(-1)!.readableEnded || guest.sockets.at(-1)!.destroyed,
    );
    await eventually('the edge holds no connection', () => edge.server.connectionCount === 0);
  }
});

test('HEAD has no body, whatever length it tells of', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest(answering('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'));
  const answer = await exchange(edge.port, `HEAD /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  expect(answer).toContain('Content-Length: 5');
  expect(bodyOf(answer)).toBe('');
});

test('a client that asks first is told to continue by the guest, and then sends', async () => {
  await using edge = await startEdge();
  await using guest = await startHttpGuest((incoming, answer) => incoming.pipe(answer));
  let asked = 0;
  guest.server.on('checkContinue', (incoming, answer) => {
    asked++;
    answer.writeContinue();
    guest.server.emit('request', incoming, answer);
  });
  const head = `POST /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n`;
  const client = rawClient(edge.port, head);
  await eventually('100', () => client.text().startsWith('HTTP/1.1 100 Continue\r\n'));
  client.socket.write('hello');
  expect(await client.closed).toContain('HTTP/1.1 200 OK');
  expect(client.text()).toContain('hello');
  expect(asked).toBe(1);
});

test('a chunked body reaches the guest as sent, with extension and trailer', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.on('data', (bytes: Buffer) => void (bytes.includes('X-Sum: 1\r\n\r\n') && socket.end(ok)));
  });
  const chunks = '5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n';
  const head = `POST /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`;
  expect(statusOf(await exchange(edge.port, head + chunks))).toBe(200);
  expect(bodyOf(guest.received())).toBe(chunks);
});

test('an answer that comes before the upload ends arrives whole', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch'));
  });
  const head = `POST /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999\r\n\r\n`;
  const answer = await exchange(edge.port, head + 'x'.repeat(100_000));
  expect(statusOf(answer)).toBe(413);
  expect(bodyOf(answer)).toBe('much');
});

test('a guest may change the protocol, and bytes then pass both ways and ends are told', async () => {
  await using edge = await startEdge();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01?');
      socket.on('data', (bytes: Buffer) => socket.write(bytes.toString('latin1').toUpperCase()));
      socket.on('end', () => socket.end('bye'));
    });
  });
  const head = `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n`;
  const client = rawClient(edge.port, head);
  await eventually('the change', () => client.text().includes('?'));
  expect(client.text()).toContain('Connection: Upgrade\r\nUpgrade: websocket\r\n');
  client.socket.write('wren');
  await eventually('the echo', () => client.text().endsWith('WREN'));
  client.socket.end();
  expect(await client.closed).toMatch(/WRENbye$/);
});

test('what a client sends ahead of a change of protocol is held until the guest takes it', async () => {
  await using edge = await startEdge();
  const answerNow = Promise.withResolvers<void>();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => {
      void answerNow.promise.then(() => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno'));
    });
  });
  const head = `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`;
  const client = rawClient(edge.port, `${head}GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n`);
  await eventually('the guest was asked', () => guest.received().length > 0);
  answerNow.resolve();
  expect(bodyOf(await client.closed)).toBe('no');
  expect(guest.received()).not.toContain('smuggled');
});

test('running exchanges finish when the edge stops, and it accepts no new ones', async () => {
  await using edge = await startEdge({ drainMs: 10_000 });
  const answerNow = Promise.withResolvers<void>();
  await using guest = await startGuest((socket) => {
    socket.once('data', () => void answerNow.promise.then(() => socket.end(ok)));
  });
  const answer = exchange(edge.port, `GET /proxy/${edge.sandboxId}/${guest.port}/ HTTP/1.1\r\nHost: a\r\n\r\n`);
  await eventually('the guest was asked', () => guest.sockets.length === 1);
  const closing = edge.server.close();
  expect(await exchange(edge.port, 'GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n')).toBe('');
  answerNow.resolve();
  expect(bodyOf(await answer)).toBe('hello');
  await closing;
});
