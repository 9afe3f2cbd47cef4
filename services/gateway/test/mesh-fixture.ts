import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';

import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { ActivityReport } from '@wrenn/kit/activity-report';
import { inMs } from '@wrenn/kit/deadlines';
import { Lanes } from '@wrenn/kit/lanes';
import { openLog } from '@wrenn/kit/log';
import { type RpcHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import { HostLanes } from '../src/adapters/host-lanes.ts';
import { LanePeer } from '../src/adapters/lane-peer.ts';
import { hostLocator, sandboxResolver } from '../src/adapters/sandbox-resolver.ts';
import { noTraces } from '../src/domain/no-traces.ts';
import { deadlinesMs } from '../src/domain/deadlines.ts';
import { RouteCache } from '../src/domain/route-cache.ts';
import { SandboxRouter } from '../src/domain/sandbox-router.ts';
import { addGatewayServices } from '../src/server.ts';

const log = openLog('test', 'silent');

export interface Listening extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
}

type Served = <S extends GenServiceMethods>(service: GenService<S>, handlers: Partial<RpcHandlers<S>>) => void;

// A server standing in for a scheduler or a vm-runtime; methods it is not given are not implemented.
export async function serveTcp(add: (serve: Served) => void, port = 0): Promise<Listening> {
  const server = new RpcServer({ log, drainMs: 100 });
  add((service, handlers) => server.add(service, complete(service, handlers)));
  const bound = await server.listen(`127.0.0.1:${port}`);
  server.ready();
  return { address: `127.0.0.1:${bound}`, port: bound, [Symbol.asyncDispose]: () => server.close() };
}

function complete<S extends GenServiceMethods>(service: GenService<S>, given: Partial<RpcHandlers<S>>): RpcHandlers<S> {
  const missing = async () => {
    throw new Error('the test gave no handler for this method');
  };
  const names = Object.keys(service.method);
  return { ...Object.fromEntries(names.map((name) => [name, missing])), ...given } as RpcHandlers<S>;
}

export interface TestGateway extends Listening {
  readonly lanes: Lanes;
  readonly hosts: HostLanes;
}

// The gateway as main.ts wires it, over real gRPC in this process.
export async function startGateway(schedulerAddress: string, idleMs = 60_000): Promise<TestGateway> {
  const scheduler = new LanePeer(schedulerAddress, 'scheduler', 'control');
  const hosts = new HostLanes(idleMs);
  const routes = new RouteCache({ capacity: 100, freshMs: 30_000, nowMs: () => performance.now() });
  const lives = scheduler.client(SchedulerService);
  const send = (sandboxIds: string[]) => lives.reportActivity({ sandboxIds }, inMs(2000));
  const activity = new ActivityReport({ send, log, everyMs: 20 });
  const router = new SandboxRouter(routes);
  const rpc = new RpcServer({ log, deadlinesMs, drainMs: 100 });
  const [resolve, locate] = [sandboxResolver(scheduler), hostLocator(scheduler)];
  addGatewayServices(rpc, { scheduler, hosts, resolve, locate, router, activity, traces: noTraces });
  const port = await rpc.listen('127.0.0.1:0');
  rpc.ready();
  const address = `127.0.0.1:${port}`;
  const lanes = new Lanes(address, 'gateway');
  return {
    address,
    port,
    lanes,
    hosts,
    async [Symbol.asyncDispose]() {
      lanes.close();
      activity.close();
      await rpc.close();
      hosts.close();
      scheduler.close();
    },
  };
}

// A unary call as a foreign client may make it: without a deadline. Resolves to its gRPC status.
export async function callWithoutDeadline(address: string, path: string, message: Uint8Array): Promise<number> {
  const session = connect(`http://${address}`);
  try {
    return await new Promise<number>((resolve, reject) => {
      session.on('error', reject);
      const call = request(session, path, message);
      const readStatus = (received: { readonly 'grpc-status'?: unknown }) => {
        if (received['grpc-status'] !== undefined) resolve(Number(received['grpc-status']));
      };
      call.on('response', readStatus).on('trailers', readStatus).on('error', reject).resume();
    });
  } finally {
    session.close();
  }
}

// Begins a call and returns what breaks its connection off.
export function openCall(address: string, path: string, message: Uint8Array): () => void {
  const session = connect(`http://${address}`);
  session.on('error', () => undefined); // It is broken on purpose.
  const call = request(session, path, message);
  call.on('error', () => undefined).resume();
  const { socket } = session;
  return () => void socket.destroy();
}

function request(session: ClientHttp2Session, path: string, message: Uint8Array): ClientHttp2Stream {
  const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' };
  const call = session.request(headers);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  call.end(Buffer.concat([prefix, message]));
  return call;
}
