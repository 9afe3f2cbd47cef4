// A guest on node's HTTP parser, which is not ours: it tells what requests it found in the bytes it was sent.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

import { guestAddress } from './edge.ts';

export interface RecordingGuest extends AsyncDisposable {
  readonly port: number;
  // Method, target and body of each complete request since the last time, in order.
  takeSeen(): string[];
  // What its parser could not read.
  takeErrors(): string[];
}

// A message that breaks off, and a method that it does not know: it has a list of them.
const accepted: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'HPE_INVALID_EOF_STATE', 'HPE_INVALID_METHOD']);

export async function startRecordingGuest(): Promise<RecordingGuest> {
  let seen: string[] = [];
  let errors: string[] = [];
  const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('error', () => response.destroy());
    request.on('end', () => {
      seen.push(`${request.method} ${request.url} ${Buffer.concat(pieces).toString('latin1')}`);
      response.setHeader('X-From', 'guest');
      response.end('guest\n');
    });
  });
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (!accepted.has(error.code ?? '')) errors.push(`${error.code}: ${error.message}`);
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, guestAddress, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    takeSeen: () => {
      const taken = seen;
      seen = [];
      return taken;
    },
    takeErrors: () => {
      const taken = errors;
      errors = [];
      return taken;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}
