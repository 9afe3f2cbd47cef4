import { createHash, randomBytes } from 'node:crypto';
import type { RequestListener } from 'node:http';

import { WrennError } from '@wrenn/kit/errors';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { type StandIn, type StandInAgent, startAgent } from '../../test/stand-in-agent.ts';
import type { ByteRange, ReadPart } from '../domain/guest-files.ts';
import { AgentConnection } from './agent-connection.ts';
import { GrpcGuestFiles } from './grpc-guest-files.ts';
import { HttpGuestBytes } from './http-guest-bytes.ts';

const never = new AbortController().signal;
const place = { path: '/dir/a b', user: 'nobody' };
const whole: ByteRange = { offset: 0n, length: 0n };
const token = 't'.repeat(64);

interface Guest extends AsyncDisposable {
  readonly agent: StandInAgent;
  readonly bytes: HttpGuestBytes;
  readonly connection: AgentConnection;
}

async function startGuest(standIn: StandIn): Promise<Guest> {
  const agent = await startAgent(standIn);
  const connection = new AgentConnection(agent.address, token);
  const bytes = new HttpGuestBytes(connection, new GrpcGuestFiles(connection, 'bulk'));
  return {
    agent,
    bytes,
    connection,
    async [Symbol.asyncDispose]() {
      connection.close();
      await agent[Symbol.asyncDispose]();
    },
  };
}

async function collect(parts: AsyncIterable<ReadPart>) {
  const pieces: Uint8Array[] = [];
  let openedBytes = -1n;
  for await (const part of parts) {
    if ('opened' in part) openedBytes = part.opened.sizeBytes;
    else pieces.push(part.data);
  }
  return { openedBytes, pieces, data: Buffer.concat(pieces) };
}

const read = async (guest: Guest, range = whole) =>
  (await collect(guest.bytes.read(place, range, never))).data.toString();
const write = (guest: Guest, data: AsyncIterable<Uint8Array>, signal = never) =>
  guest.bytes.write(place, 0, data, signal);
async function* pieces(...texts: string[]) {
  for (const text of texts) yield Buffer.from(text);
}

// The answer to a GET, byte for byte.
const saying = (text: string, after: 'end' | 'destroy' | 'nothing' = 'end'): StandIn => ({
  raw: (socket) => {
    socket.once('data', () => {
      socket.write(Buffer.from(text, 'latin1'), () => {
        if (after === 'end') socket.end();
        else if (after === 'destroy') socket.resetAndDestroy();
      });
    });
  },
});

test('reads a file whole, of any bytes, and tells the size that was read', async () => {
  const content = randomBytes(5_000_000);
  let seen: unknown;
  await using guest = await startGuest({
    http: ({ url, headers, method }, answer) => {
      seen = [method, url, headers['x-access-token'], headers.range];
      answer.writeHead(200, { 'Content-Length': content.length }).end(content);
    },
  });
  const { openedBytes, data, pieces: got } = await collect(guest.bytes.read(place, whole, never));
  expect(openedBytes).toBe(5_000_000n);
  expect(Buffer.compare(data, content)).toBe(0);
  expect(Math.max(...got.map(({ length }) => length))).toBeLessThanOrEqual(256 * 1024);
  expect(seen).toEqual(['GET', '/files?path=%2Fdir%2Fa%20b&username=nobody', token, undefined]);
});

test.each([
  [{ offset: 2n, length: 3n }, 'bytes=2-4', 'bytes 2-4/10', '234'],
  [{ offset: 7n, length: 0n }, 'bytes=7-', 'bytes 7-9/10', '789'],
  [{ offset: 0n, length: 2n }, 'bytes=0-1', 'bytes 0-1/10', '01'],
  [{ offset: 8n, length: 2n ** 64n - 1n }, `bytes=8-${2n ** 63n - 1n}`, 'bytes 8-9/10', '89'],
])('asks for a part by its range (case %#)', async (range, asked, told, content) => {
  await using guest = await startGuest({
    http: ({ headers }, answer) => {
      expect(headers.range).toBe(asked);
      answer.writeHead(206, { 'Content-Length': content.length, 'Content-Range': told }).end(content);
    },
  });
  expect(await collect(guest.bytes.read(place, range, never))).toMatchObject({
    openedBytes: 10n,
    data: Buffer.from(content),
  });
});

test('behind the end there is nothing to read', async () => {
  await using guest = await startGuest({
    http: (_request, answer) => answer.writeHead(416, { 'Content-Range': 'bytes */10' }).end(),
  });
  const { openedBytes, data } = await collect(guest.bytes.read(place, { offset: 2n ** 64n - 1n, length: 1n }, never));
  expect([openedBytes, data.length]).toEqual([10n, 0]);
});

const head = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n';
test.each([
  ['a connection that ends early', saying(`${head}12345`), 'AGENT_UNREACHABLE'],
  ['a connection that is reset', saying(`${head}12345`, 'destroy'), 'AGENT_UNREACHABLE'],
  ['a connection that ends before it answers', saying(''), 'AGENT_UNREACHABLE'],
  ['a body that ends with the connection', saying('HTTP/1.1 200 OK\r\n\r\n12345'), 'AGENT_MISBEHAVED'],
  [
    'a chunked body that is cut',
    saying('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n'),
    'AGENT_MISBEHAVED',
  ],
  [
    'a part that was not asked for',
    saying('HTTP/1.1 206 X\r\nContent-Length: 1\r\nContent-Range: bytes 1-1/2\r\n\r\nx'),
    'AGENT_MISBEHAVED',
  ],
  ['two lengths', saying('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy'), 'AGENT_MISBEHAVED'],
  ['no HTTP', saying('\0\x01\x02hello'), 'AGENT_MISBEHAVED'],
  ['a head without end', saying(`HTTP/1.1 200 OK\r\nX: ${'x'.repeat(200_000)}`), 'AGENT_MISBEHAVED'],
  [
    'a redirect',
    saying('HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\nContent-Length: 0\r\n\r\n'),
    'AGENT_MISBEHAVED',
  ],
  ['an error that is no JSON', saying('HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\noops'), 'AGENT_MISBEHAVED'],
  ['an error without end', saying(`HTTP/1.1 500 X\r\n\r\n${'x'.repeat(100_000)}`, 'nothing'), 'AGENT_MISBEHAVED'],
] as const)('never takes %s for a file', async (_what, standIn, reason) => {
  await using guest = await startGuest(standIn);
  await expect(read(guest)).rejects.toMatchObject({ reason });
});

test.each([
  ['PATH_NOT_FOUND', 404, 'PATH_NOT_FOUND'],
  ['IS_A_DIRECTORY', 400, 'IS_A_DIRECTORY'],
  ['NO_SPACE_LEFT', 507, 'GUEST_DISK_FULL'],
  ['UNKNOWN_USER', 400, 'USER_NOT_FOUND'],
  ['MADE_UP', 400, 'AGENT_MISBEHAVED'],
])('tells why the agent refused: %s', async (told, status, reason) => {
  const refuse: RequestListener = (_request, answer) => {
    answer.writeHead(status).end(JSON.stringify({ code: 5, reason: told, message: 'because \u001b[31m of this' }));
  };
  await using guest = await startGuest({ http: refuse });
  const refusal = { reason, message: expect.stringContaining('because ?[31m of this') };
  await expect(read(guest)).rejects.toMatchObject(refusal);
  await expect(write(guest, pieces('x'))).rejects.toMatchObject(refusal);
});

test('a reader that stops slows the agent, and one that leaves frees the connection', async () => {
  let sentBytes = 0;
  const total = 64 * 2 ** 20;
  await using guest = await startGuest({
    http: (_request, answer) => {
      answer.writeHead(200, { 'Content-Length': total });
      const piece = Buffer.alloc(65_536);
      const send = () => {
        while (sentBytes < total) {
          sentBytes += piece.length;
          if (!answer.write(piece)) return void answer.once('drain', send);
        }
        answer.end();
      };
      send();
    },
  });
  const parts = guest.bytes.read(place, whole, never)[Symbol.asyncIterator]();
  await parts.next();
  let beforeBytes = -1;
  await eventually('the agent stands still', () => {
    const stands = sentBytes === beforeBytes && sentBytes > 0;
    beforeBytes = sentBytes;
    return stands;
  });
  expect(sentBytes).toBeLessThan(total / 2);
  expect(guest.agent.openCount()).toBe(1);
  await parts.return!();
  await eventually('the connection is gone', () => guest.agent.openCount() === 0);
});

test('writes what it is given, once, and answers with the file as it then is', async () => {
  const content = Array.from({ length: 40 }, () => randomBytes(100_000));
  const hash = createHash('sha256');
  let seen: unknown;
  await using guest = await startGuest({
    http: (request, answer) => {
      seen = [request.method, request.url, request.headers['transfer-encoding']];
      request.on('data', (piece: Buffer) => hash.update(piece)).on('end', () => answer.end('{}'));
    },
  });
  async function* data() {
    yield* content;
    yield Buffer.alloc(0);
  }
  const entry = await guest.bytes.write(place, 0o640, data(), never);
  expect(entry).toMatchObject({ path: '/dir/file', type: 'file' });
  expect(seen).toEqual(['POST', '/files?path=%2Fdir%2Fa%20b&username=nobody&mode=640', 'chunked']);
  expect(hash.digest('hex')).toBe(createHash('sha256').update(Buffer.concat(content)).digest('hex'));
});

test.each(['the data fails', 'the caller leaves', 'the sandbox ends'])(
  'an upload that does not come to its end is cut where the agent sees it: %s',
  async (how) => {
    let ending = '';
    await using guest = await startGuest({
      http: (request) => {
        request.on('data', () => undefined).on('end', () => (ending = 'whole'));
        request.on('error', () => undefined).on('aborted', () => (ending = 'cut'));
      },
    });
    const caller = new AbortController();
    async function* data() {
      yield Buffer.from('half');
      await eventually('the agent has the first half', () => guest.agent.openCount() === 1);
      if (how === 'the data fails') throw new WrennError('CANCELLED', 'left');
      if (how === 'the caller leaves') caller.abort();
      else guest.connection.close();
      await new Promise(() => undefined);
    }
    const reason = how === 'the sandbox ends' ? 'VMM_DIED' : 'CANCELLED';
    await expect(write(guest, data(), caller.signal)).rejects.toMatchObject({ reason });
    await eventually('the agent sees it', () => ending !== '');
    expect(ending).toBe('cut');
  },
);

test('a refusal in mid-upload ends it at once, though more data would come', async () => {
  const refusal = { reason: 'NO_SPACE_LEFT', message: 'the disk is full', code: 8 };
  await using guest = await startGuest({
    http: (request, answer) => {
      request.once('data', () => answer.writeHead(507).end(JSON.stringify(refusal)));
    },
  });
  async function* data() {
    yield Buffer.alloc(1000);
    await new Promise(() => undefined);
  }
  await expect(write(guest, data())).rejects.toMatchObject({ reason: 'GUEST_DISK_FULL', message: 'the disk is full' });
});

test('an agent that does not read slows the writer', async () => {
  let takenBytes = 0;
  let isReading = () => undefined as void;
  await using guest = await startGuest({
    http: (request, answer) => {
      request.pause();
      isReading = () => void request.resume().on('end', () => answer.end('{}'));
    },
  });
  async function* data() {
    for (let n = 0; n < 600; n++) {
      takenBytes += 65_536;
      yield Buffer.alloc(65_536);
    }
  }
  const writing = write(guest, data());
  let beforeBytes = -1;
  await eventually('the writer stands still', () => {
    const stands = takenBytes === beforeBytes && takenBytes > 65_536;
    beforeBytes = takenBytes;
    return stands;
  });
  expect(takenBytes).toBeLessThan(20 * 2 ** 20);
  isReading();
  await writing;
  expect(takenBytes).toBe(600 * 65_536);
});

test('a guest without a listener, or none at all, is unreachable', async () => {
  await using guest = await startGuest({});
  await guest.agent[Symbol.asyncDispose]();
  await expect(read(guest)).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
  await expect(write(guest, pieces('x'))).rejects.toMatchObject({ reason: 'AGENT_UNREACHABLE' });
});
