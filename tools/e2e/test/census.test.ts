// Every kind of traffic of one sandbox at once, and the connections that carry it: each lane has its own from end to end,
// and what crosses the edge crosses no RPC port. A lane more is a line more in `lanes`.
import { Agent, request } from 'node:http';
import { connect } from 'node:net';

import { inMs } from '@wrenn/kit/deadlines';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { type Connection, carriedBetween, censusOf } from '../src/census.ts';
import { GuestFiles, messagesOf } from '../src/guest-files.ts';
import type { Guest } from '../src/guest.ts';
import { Terminal, newTerminal } from '../src/terminal.ts';
import { endsWithoutLeaks, useMesh } from '../src/use-mesh.ts';

const mesh = useMesh({ templates: ['debian'] });
const MiB = 2 ** 20;
const movedBytes = 2 * MiB;
// A reader is sent as much ahead as its windows hold.
const readBytes = 32 * MiB;
// What a lane may carry while another works: reports, probes and acknowledgements.
const quietBytes = movedBytes / 8;

// Traffic that goes on over what it has opened: `move` has carried `movedBytes` from one end to the other.
interface Traffic {
  readonly ways: readonly string[];
  move(): Promise<void>;
  close(): void;
}

let guest: Guest;
let look: () => Promise<Connection[]>;
const lanes = new Map<string, Traffic>();

// Answers a GET with as many bytes as its path says, or changes the protocol and echoes.
const server = `
import socket, threading
def serve(client):
    data = b''
    while True:
        while b'\\r\\n\\r\\n' not in data:
            part = client.recv(65536)
            if not part: return client.close()
            data += part
        head, data = data.split(b'\\r\\n\\r\\n', 1)
        if b'\\r\\nupgrade:' in head.lower(): break
        size = int(head.split()[1][1:])
        client.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n' % size + bytes(size))
    client.sendall(b'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n' + data)
    while part := client.recv(65536): client.sendall(part)
    client.close()
listener = socket.create_server(('0.0.0.0', 8000))
while True: threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()`;

function start(command: string, args: string[], hasStdin = false) {
  return mesh.now.client.processes.start({ sandboxId: guest.id, process: { command, args }, hasStdin });
}

const interactiveWays = ['client > gateway', 'gateway > vm-runtime', 'vm-runtime > guest:49983'];

// A command that gives back what it is given.
async function commands(): Promise<Traffic> {
  const events = start('cat', [], true)[Symbol.asyncIterator]();
  const first = await events.next();
  const pid = first.done || first.value.event?.event.case !== 'started' ? 0 : first.value.event.event.value.pid;
  const process = { selector: { case: 'pid', value: pid } } as const;
  return {
    ways: interactiveWays,
    async move() {
      const data = Buffer.alloc(movedBytes / 16);
      for (let sent = 0; sent < movedBytes; sent += data.length) {
        await mesh.now.client.processes.sendInput({ sandboxId: guest.id, process, data }, inMs(30_000));
        for (let back = 0; back < data.length;) {
          const { value } = await events.next();
          if (value?.event?.event.case === 'stdout') back += value.event.event.value.length;
        }
      }
    },
    close: () => void events.return?.(),
  };
}

// The same at a terminal.
async function terminal(): Promise<Traffic> {
  const command = newTerminal('census', 'sh', '-c', 'stty raw -echo; echo ready; exec cat');
  const shown = new Terminal(mesh.now.client, { sandboxId: guest.id, terminal: command });
  let back = await shown.until('ready\n');
  const keys = Buffer.alloc(movedBytes / 64, 'k');
  return {
    ways: interactiveWays,
    async move() {
      for (let sent = 0; sent < movedBytes; sent += keys.length) {
        await shown.type(keys);
        back += keys.length;
        await eventually('it is back', () => shown.output.length >= back, 30_000);
      }
    },
    close: () => void shown[Symbol.asyncDispose](),
  };
}

const bulkWays = ['client > gateway-bulk', 'gateway-bulk > vm-runtime-bulk', 'vm-runtime > guest:49983'];

async function upload(): Promise<Traffic> {
  const files = new GuestFiles(mesh.now, guest);
  const leave = new AbortController();
  let give = Promise.withResolvers<Uint8Array>();
  async function* data() {
    for (;;) {
      yield await give.promise;
      give = Promise.withResolvers();
    }
  }
  const start = { ...files.at('/tmp/uploaded'), mode: 0 };
  const ended = mesh.now.client.bytes.write(messagesOf(start, data()), { signal: leave.signal }).catch(() => undefined);
  let moved = 0;
  return {
    ways: bulkWays,
    async move() {
      moved += movedBytes;
      for (let sent = 0; sent < movedBytes; sent += MiB / 4) {
        give.resolve(new Uint8Array(MiB / 4));
        const given = give;
        await eventually('it is taken', () => give !== given);
      }
      await eventually('all of it is in the guest', async () => (await files.draftBytes()) >= moved, 30_000);
    },
    close: () => (leave.abort(), give.resolve(new Uint8Array()), void ended),
  };
}

async function download(): Promise<Traffic> {
  await guest.sh('truncate -s 1G /tmp/large');
  const leave = new AbortController();
  const request = { sandboxId: guest.id, path: '/tmp/large' };
  const pieces = mesh.now.client.bytes.read(request, { signal: leave.signal })[Symbol.asyncIterator]();
  return {
    ways: bulkWays,
    async move() {
      for (let read = 0; read < readBytes;) {
        const { value } = await pieces.next();
        if (value?.part.case === 'data') read += value.part.value.length;
      }
    },
    close: () => leave.abort(),
  };
}

const edgeWays = ['client > edge-proxy', 'edge-proxy > guest:8000'];
const edgeAt = () => {
  const [host = '', port] = mesh.now.mesh.addresses.edgeProxy.split(':');
  return { host, port: Number(port) };
};

async function pages(): Promise<Traffic> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  return {
    ways: edgeWays,
    move: () =>
      new Promise((resolve, reject) => {
        const path = `/proxy/${guest.id}/8000/${movedBytes}`;
        const outgoing = request({ ...edgeAt(), path, agent }, (answer) => {
          answer.resume().on('end', () => (answer.statusCode === 200 ? resolve() : reject(new Error('no page'))));
        });
        outgoing.on('error', reject).end();
      }),
    close: () => agent.destroy(),
  };
}

async function webSocket(): Promise<Traffic> {
  const socket = connect(edgeAt());
  socket.on('error', () => socket.destroy());
  socket.write(`GET /proxy/${guest.id}/8000/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
  let received = 0;
  await new Promise((resolve) => socket.once('data', resolve));
  socket.on('data', (bytes: Buffer) => (received += bytes.length));
  return {
    ways: edgeWays,
    async move() {
      const before = received;
      socket.write(Buffer.alloc(movedBytes / 2));
      await eventually('it is back', () => received >= before + movedBytes / 2, 30_000);
    },
    close: () => socket.destroy(),
  };
}

// What is on its way when nobody asks for more has arrived: nothing has moved for many looks.
async function settled(): Promise<Connection[]> {
  let first = await look();
  let looks = 0;
  return eventually(
    'nothing moves',
    async () => {
      const now = await look();
      const isStill = carriedBetween(first, now).every(({ byteCount }) => byteCount < quietBytes / 4);
      looks = isStill ? looks + 1 : 0;
      if (!isStill) first = now;
      return looks === 25 && now;
    },
    60_000,
  );
}

beforeAll(async () => {
  guest = await mesh.now.create('debian');
  look = await censusOf(mesh.now, guest);
  await start('python3', ['-c', server])[Symbol.asyncIterator]().next();
  const url = `http://${mesh.now.mesh.addresses.edgeProxy}/proxy/${guest.id}/8000/1`;
  await eventually('it is served', async () => (await fetch(url)).ok, 30_000);
  for (const [name, open] of Object.entries({ commands, terminal, upload, download, pages, webSocket })) {
    lanes.set(name, await open());
  }
});

afterAll(() => {
  for (const { close } of lanes.values()) close();
});

// Two uses of one lane.
const laneOf = (name: string) =>
  ({ commands: 'interactive', terminal: 'interactive', upload: 'bulk', download: 'bulk' })[name] ?? name;

test('each lane has connections of its own from end to end, while all others are open', async () => {
  const carriers = new Map<string, string>();
  for (const [name, { ways, move }] of lanes) {
    const before = await settled();
    await move();
    const carried = carriedBetween(before, await settled());
    const busy = carried.filter(({ byteCount }) => byteCount > quietBytes);
    expect(busy.map(({ way }) => way).toSorted(), name).toEqual(ways.toSorted());
    for (const { id, way, byteCount } of busy) {
      expect(byteCount, way).toBeGreaterThan(movedBytes / 2);
      const other = carriers.get(id);
      if (other !== undefined && laneOf(name) !== laneOf(other)) {
        expect.unreachable(`${way} carries ${other} and ${name}`);
      }
      carriers.set(id, name);
    }
  }
}, 300_000);

test('while all work at once no other connection is used', async () => {
  const before = await settled();
  await Promise.all([...lanes.values()].map(({ move }) => move()));
  const carried = carriedBetween(before, await settled());
  const ways = new Set([...lanes.values()].flatMap((lane) => lane.ways));
  const busy = carried.filter(({ byteCount }) => byteCount > quietBytes);
  expect(new Set(busy.map(({ way }) => way))).toEqual(ways);
  const known = new Set(before.map(({ id }) => id));
  expect(busy.filter(({ id }) => !known.has(id))).toEqual([]);
}, 180_000);

test('what the edge holds leads to guests and to the scheduler, and nothing else leads to a guest’s port', async () => {
  const open = await look();
  const ofEdge = new Set(open.map(({ way }) => way).filter((way) => way.startsWith('edge-proxy > ')));
  expect(ofEdge).toEqual(new Set(['edge-proxy > guest:8000', 'edge-proxy > scheduler']));
  const toPort = open.map(({ way }) => way).filter((way) => way.endsWith(' > guest:8000'));
  expect(new Set(toPort)).toEqual(new Set(['edge-proxy > guest:8000']));
  const toAgent = open.map(({ way }) => way).filter((way) => way.endsWith(' > guest:49983'));
  expect(new Set(toAgent)).toEqual(new Set(['vm-runtime > guest:49983']));
  // Spans go by connections of their own, that none of the lanes was seen to use; the keeper calls nobody.
  const waysOfKeeper = (all: readonly Connection[]) =>
    all.map(({ way }) => way).filter((way) => way.includes('trace-keeper'));
  const ofKeeper = await eventually('spans are on their way', async () => {
    await guest.sh('true');
    const ways = waysOfKeeper(await look());
    return ways.includes('gateway > trace-keeper') && ways;
  });
  expect(ofKeeper.filter((way) => !way.endsWith(' > trace-keeper'))).toEqual([]);
});

endsWithoutLeaks(mesh);
