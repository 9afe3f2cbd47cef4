// The bulk thread: file contents have an event loop, a port and connections to agents of their own, so that
// no keystroke waits behind them. It knows only what the main thread tells it, and dies without taking it along.
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';

import { WrennError } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { processMetrics } from '@wrenn/kit/metrics/process-metrics';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';

import { AgentConnection } from './adapters/agent-connection.ts';
import { GrpcGuestFiles } from './adapters/grpc-guest-files.ts';
import { HttpGuestBytes } from './adapters/http-guest-bytes.ts';
import {
  type BulkCounted,
  type BulkDrained,
  type BulkGuest,
  BulkGuests,
  type BulkMessage,
  type BulkSettings,
} from './domain/bulk-guests.ts';
import { CountedBytes } from './domain/counted-bytes.ts';
import { filesystemHandlers } from './filesystem-server.ts';

if (!parentPort) throw new Error('this is a thread of vm-runtime, not a program');
// This thread alone: when both want the processor the main one, which works a moment at a time, gets it.
const bulkNiceness = 10;
setPriority(0, bulkNiceness);
const main = parentPort;
const settings = workerData as BulkSettings;
const log = openLog('vm-runtime-bulk', settings.logLevel);
const telemetry = startTelemetry('vm-runtime-bulk', settings.env);
const guests = new BulkGuests(dial);
const rpc = new RpcServer({ log, bulkMethods: [FilesystemService.method.write] });
rpc.add(
  FilesystemService,
  filesystemHandlers({
    files: async (sandboxId) => (await guests.guest(sandboxId)).files,
    bytes: async (sandboxId) => (await guests.guest(sandboxId)).bytes,
    signUrl: async () => {
      throw new WrennError('UNIMPLEMENTED', "URLs are signed at the host's main address");
    },
  }),
);

main.on('message', (message: BulkMessage) => {
  if (message.kind === 'stop') void stop(); // Its failure ends the thread, which the main thread sees.
  else if (message.kind === 'log level') log.level = message.logLevel;
  else if (message.kind === 'count') void count(); // Never rejects: what cannot be read is left out.
  else if (message.kind === 'drain') void drain(message); // Never rejects.
  else guests.take(message);
});
const port = await rpc.listen(settings.listen);
rpc.ready();
main.postMessage({ port });

function dial(guestAddress: string, accessToken: string): BulkGuest {
  const connection = new AgentConnection(guestAddress, accessToken);
  const files = new GrpcGuestFiles(connection, 'bulk');
  return {
    files,
    bytes: new CountedBytes(new HttpGuestBytes(connection, files)),
    close: (why) => connection.close(why),
  };
}

async function drain({ sandboxId, limitMs }: Extract<BulkMessage, { kind: 'drain' }>): Promise<void> {
  const left = await guests.drain(sandboxId, limitMs);
  main.postMessage({ drained: sandboxId, left } satisfies BulkDrained);
}

async function count(): Promise<void> {
  main.postMessage({ families: await processMetrics.collect() } satisfies BulkCounted);
}

async function stop(): Promise<void> {
  await rpc.close();
  guests.close();
  await telemetry.close();
  main.close();
}
