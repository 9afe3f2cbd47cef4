// Something on the guest agent's port, on a loopback address of its own: real gRPC and real HTTP, as the test
// wants them. For what a real agent never does.
import { randomInt } from 'node:crypto';
import { type RequestListener, createServer as createHttpServer } from 'node:http';
import { type Server, type Socket, connect, createServer } from 'node:net';

import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { openLog } from '@wrenn/kit/log';
import { type RpcHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { partialHandlers } from '@wrenn/kit/testkit/partial';
import { FileType, Filesystem } from '@wrenn/proto/filesystem/filesystem';

const agentPort = 49_983;

type Add = <S extends GenServiceMethods>(service: GenService<S>, handlers: Partial<RpcHandlers<S>>) => void;

export interface StandInAgent extends AsyncDisposable {
  readonly address: string;
  readonly sockets: Set<Socket>; // Of plain HTTP.
  readonly openCount: () => number; // Connections of plain HTTP that are open now.
}

export interface StandIn {
  readonly rpc?: (add: Add) => void;
  readonly http?: RequestListener;
  readonly raw?: (socket: Socket) => void; // Instead of HTTP.
}

export const entry = {
  name: 'file',
  path: '/dir/file',
  type: FileType.FILE,
  size: 5n,
  mode: 0o644,
  owner: 'root',
  group: 'root',
};

export async function startAgent({ rpc, http, raw }: StandIn): Promise<StandInAgent> {
  const grpc = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  const add: Add = (service, handlers) => grpc.add(service, partialHandlers(service, handlers));
  if (rpc) rpc(add);
  else add(Filesystem, { stat: async () => ({ entry }) });
  const grpcPort = await grpc.listen('127.0.0.1:0');
  grpc.ready();
  const web = createHttpServer(http);
  if (http)
    web.on('checkContinue', (request, response) => {
      // As the real agent: it asks for the body once it wants it.
      response.writeContinue();
      http(request, response as never);
    });
  const all = new Set<Socket>();
  const sockets = new Set<Socket>();
  // One port for both, told apart by HTTP/2's preface.
  const server = createServer({ pauseOnConnect: true }, (socket) => {
    all.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => all.delete(socket));
    socket.once('readable', () => {
      const first = socket.read() as Buffer | null;
      if (!first) return void socket.destroy();
      socket.unshift(first);
      if (first.toString('latin1', 0, 3) === 'PRI') {
        const onward = connect(grpcPort, '127.0.0.1');
        onward.on('error', () => socket.destroy()).on('close', () => socket.destroy());
        socket.on('close', () => onward.destroy());
        socket.pipe(onward).pipe(socket);
        return;
      }
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      if (raw) raw(socket);
      else web.emit('connection', socket);
      socket.resume();
    });
    socket.read(0);
  });
  const address = await listenSomewhere(server);
  return {
    address,
    sockets,
    openCount: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of all) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
      await grpc.close();
    },
  };
}

// On the agent's port of a loopback address that nobody else uses.
export async function listenSomewhere(server: Server): Promise<string> {
  for (;;) {
    const address = `127.${randomInt(2, 250)}.${randomInt(0, 250)}.${randomInt(1, 250)}`;
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(agentPort, address, () => resolve(true));
    });
    if (isFree) return address;
  }
}
