// Something on the guest agent's port that speaks HTTP/2 by hand: it can break gRPC and protobuf, which a server
// of ours cannot. Only for what a real agent never does.
import { type IncomingHttpHeaders, type ServerHttp2Stream, createServer } from 'node:http2';
import type { Socket } from 'node:net';

import { type MessageInitShape, create, toBinary } from '@bufbuild/protobuf';
import { type ProcessEventSchema, StartResponseSchema } from '@wrenn/proto/process/process';

import { listenSomewhere } from './stand-in-agent.ts';

export interface LyingAgent extends AsyncDisposable {
  readonly address: string;
  readonly sockets: ReadonlySet<Socket>;
  readonly calls: readonly string[]; // Paths of the rpcs that came in.
}

export type Lie = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => void;

export async function startLyingAgent(lie: Lie): Promise<LyingAgent> {
  const sockets = new Set<Socket>();
  const calls: string[] = [];
  const server = createServer();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy()).on('close', () => sockets.delete(socket));
  });
  server.on('sessionError', () => undefined);
  server.on('stream', (stream, headers) => {
    calls.push(headers[':path'] ?? '');
    stream.on('error', () => undefined);
    lie(stream, headers);
  });
  const address = await listenSomewhere(server);
  return {
    address,
    sockets,
    calls,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

export type Event = MessageInitShape<typeof ProcessEventSchema>;

export const started = (pid = 7): Event => ({ event: { case: 'start', value: { pid } } });

export const said = (sequence: bigint, text: string | Uint8Array = 'x'): Event => ({
  sequence,
  event: { case: 'data', value: { output: { case: 'stdout', value: Buffer.from(text) } } },
});

export const ended = (sequence: bigint, exitCode = 0): Event => ({
  sequence,
  event: { case: 'end', value: { exitCode, exited: true } },
});

// The answer to Start; Connect's is the same on the wire.
export const message = (event: Event): Buffer =>
  framed(toBinary(StartResponseSchema, create(StartResponseSchema, { event })));

export function framed(bytes: Uint8Array, announcedBytes = bytes.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(announcedBytes, 1);
  return Buffer.concat([head, bytes]);
}

// Begins a gRPC answer; what is written then is its messages, and `end` its end.
export function beginAnswer(
  stream: ServerHttp2Stream,
  trailers: Readonly<Record<string, string>> = { 'grpc-status': '0' },
) {
  stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers(trailers));
}

// A whole answer, well-formed or not.
export const answering =
  (pieces: readonly Uint8Array[], trailers?: Readonly<Record<string, string>>): Lie =>
  (stream) => {
    beginAnswer(stream, trailers);
    for (const piece of pieces) stream.write(piece);
    stream.end();
  };

export const telling = (...events: readonly Event[]): Lie => answering(events.map(message));
