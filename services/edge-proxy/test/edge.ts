// A whole edge for one test: the proxy on loopback, a scheduler over real gRPC, and guests on 127.0.0.2.
import { type Server, type Socket, connect, createServer } from 'node:net';

import { systemClock } from '@wrenn/kit/clock';
import { WrennError } from '@wrenn/kit/errors';
import { newSandboxId } from '@wrenn/kit/ids';
import { ActivityReport } from '@wrenn/kit/activity-report';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { newAccessToken, newTrafficToken } from '@wrenn/kit/tokens';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import { countedDial } from '../src/adapters/counted-dial.ts';
import { type AddressRange, GuestDialer, type Reach } from '../src/adapters/guest-dialer.ts';
import { GuestConnections, type GuestConnectionsOptions } from '../src/adapters/guest-connections.ts';
import { SandboxAddresses } from '../src/adapters/sandbox-addresses.ts';
import { SandboxFollower } from '../src/adapters/sandbox-follower.ts';
import { Gate } from '../src/gate.ts';
import { type EdgeOptions, EdgeServer } from '../src/server.ts';

const log = openLog('test', 'silent');
export const guestAddress = '127.0.0.2';

interface AccessForTest {
  secure: boolean;
  publicPorts: number[];
  readonly trafficToken: string;
  readonly accessToken: string;
}

interface Wakes {
  readonly ids: Set<string>; // Of those that may be woken.
  count: number;
  finish: () => Promise<string>; // Where it is then.
}

const newAccess = (): AccessForTest => ({
  secure: false,
  publicPorts: [],
  trafficToken: newTrafficToken(),
  accessToken: newAccessToken(),
});

interface EdgeForTest extends Partial<EdgeOptions> {
  readonly connections?: Partial<GuestConnectionsOptions>;
  readonly range?: AddressRange;
  readonly hostId?: string; // Of the host that has its sandboxes.
  readonly reach?: Reach;
}

export async function startEdge(options: EdgeForTest = {}) {
  const { hostId = 'host-a' } = options;
  const sandboxId = newSandboxId();
  const sandboxes = new Map<string, string>([[sandboxId, guestAddress]]);
  const accesses = new Map<string, AccessForTest>();
  const accessOf = (id: string) => {
    const known = accesses.get(id) ?? newAccess();
    accesses.set(id, known);
    return known;
  };
  const wakes: Wakes = { ids: new Set(), count: 0, finish: async () => guestAddress };
  let lookups = 0;
  const reported: string[] = [];
  let tell: ((event: { sandboxId: string; toState: SandboxState }) => void) | undefined;
  const scheduler = new RpcServer({ log, drainMs: 100 });
  scheduler.add(
    SchedulerService,
    partialHandlers(SchedulerService, {
      findSandbox: async ({ sandboxId: id }) => {
        lookups++;
        const guest = sandboxes.get(id);
        if (guest === undefined) throw new WrennError('SANDBOX_NOT_FOUND', 'no such sandbox');
        const state = guest === '' ? SandboxState.PAUSED : SandboxState.RUNNING;
        return { state, hostId, guestAddress: guest, autoResume: wakes.ids.has(id), access: accessOf(id) };
      },
      resolveSandbox: async ({ sandboxId: id }, call) => {
        wakes.count++;
        call.sendHeader();
        const address = await wakes.finish();
        sandboxes.set(id, address);
        return { hostId, guestAddress: address };
      },
      reportActivity: async ({ sandboxIds }) => {
        reported.push(...sandboxIds);
        return {};
      },
    }),
  );
  scheduler.add(
    SandboxService,
    partialHandlers(SandboxService, {
      watchEvents: async function* watchEvents(_request, call) {
        for (;;) {
          const changed = Promise.withResolvers<{ sandboxId: string; toState: SandboxState }>();
          tell = changed.resolve;
          call.signal.addEventListener('abort', () => changed.reject(call.signal.reason), { once: true });
          call.sendHeader();
          yield { event: await changed.promise };
        }
      },
    }),
  );
  const schedulerPort = await scheduler.listen('127.0.0.1:0');
  const lanes = new Lanes(`127.0.0.1:${schedulerPort}`, 'scheduler');
  const inside = lanes.client('control', SchedulerService);
  const send = (sandboxIds: string[]) => inside.reportActivity({ sandboxIds }, inMs(2000));
  const activity = new ActivityReport({ send, log, everyMs: 20 });
  const addresses = new SandboxAddresses(inside);
  const dialer = new GuestDialer(addresses, options.range ?? { network: '127.0.0.0', prefixLength: 8 }, options.reach);
  const guests = new GuestConnections({
    resolve: (id) => addresses.resolve(id),
    dial: countedDial((id, port, signal) => dialer.dial(id, port, signal), activity),
    ...options.connections,
  });
  const follower = new SandboxFollower(lanes.client('control', SandboxService), [addresses, guests], log);
  await eventually('the edge follows the sandboxes', () => addresses.isFollowing);
  const gate = new Gate({ accessOf: (id) => addresses.accessOf(id), clock: systemClock });
  const server = new EdgeServer({
    guests,
    admit: gate.admit.bind(gate),
    domain: 'localhost',
    log,
    drainMs: 100,
    ...options,
  });
  const port = await server.listen('127.0.0.1:0');
  return {
    port,
    sandboxId,
    guests: sandboxes, // Empty: paused.
    access: accessOf(sandboxId),
    accessOf,
    wakes,
    connections: guests,
    dialer,
    server,
    addSandbox: () => {
      const id = newSandboxId();
      sandboxes.set(id, guestAddress);
      return id;
    },
    stopScheduler: () => scheduler.close(),
    announceChange: (id: string, toState: SandboxState = SandboxState.RUNNING) => tell?.({ sandboxId: id, toState }),
    lookups: () => lookups,
    reported,
    async [Symbol.asyncDispose]() {
      await server.close();
      guests.close();
      activity.close();
      await follower.close();
      lanes.close();
      await scheduler.close();
    },
  };
}

export interface Guest extends AsyncDisposable {
  readonly port: number;
  readonly sockets: Socket[];
  readonly received: () => string; // By all connections, in order.
}

// A guest's port. What it does with a connection is the test's.
export async function startGuest(serve: (socket: Socket) => void, port = 0): Promise<Guest> {
  const sockets: Socket[] = [];
  const pieces: Buffer[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('data', (bytes: Buffer) => void (pieces.length < 1000 && pieces.push(bytes)));
    socket.on('error', () => socket.destroy());
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(port, guestAddress, resolve));
  return {
    port: (server.address() as { port: number }).port,
    sockets,
    received: () => Buffer.concat(pieces).toString('latin1'),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

// Answers every connection with a text once a head has come.
export const answering = (text: string) => (socket: Socket) => {
  socket.once('data', () => socket.end(Buffer.from(text, 'latin1')));
};

// Answers each request of a connection, all of which have no body.
export const serving = (answer: (head: string, socket: Socket) => string) => (socket: Socket) => {
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
    for (let end = text.indexOf('\r\n\r\n'); end >= 0; end = text.indexOf('\r\n\r\n')) {
      const head = text.slice(0, end);
      text = text.slice(end + 4);
      socket.write(Buffer.from(answer(head, socket), 'latin1'));
    }
  });
};

export interface RawClient {
  readonly socket: Socket;
  readonly text: () => string;
  readonly closed: Promise<string>; // All that was received, once the connection is closed.
}

export function rawClient(port: number, send?: string): RawClient {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
  let text = '';
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece));
  socket.on('error', () => socket.destroy());
  socket.on('end', () => socket.end());
  if (send !== undefined) socket.write(Buffer.from(send, 'latin1'));
  return { socket, text: () => text, closed: new Promise((resolve) => socket.once('close', () => resolve(text))) };
}

// What the edge answers to a request of which it is told that no other follows.
export const exchange = (port: number, send: string) =>
  rawClient(port, send.replace('\r\nHost: a\r\n', '\r\nHost: a\r\nConnection: close\r\n')).closed;
