import { once } from 'node:events';
import { connect } from 'node:http2';

import { Health } from '@wrenn/proto/grpc/health/v1/health';
import { expect, test } from 'vitest';

import { openLog } from './log.ts';
import { RpcServer } from './rpc-server.ts';
import { eventually } from './testkit/eventually.ts';

const standardBytes = 65_535;
const MiB = 1024 * 1024;

test('who calls a method for bytes in number may be 1 MiB ahead of its reader, and nobody else', async () => {
  const log = openLog('test', 'silent');
  const rpc = new RpcServer({ log, bulkMethods: [Health.method.check] });
  const port = await rpc.listen('127.0.0.1:0');
  const clients = ['Check', 'Watch'].map((method) => {
    const session = connect(`http://127.0.0.1:${port}`);
    const headers = { ':method': 'POST', ':path': `/grpc.health.v1.Health/${method}`, te: 'trailers' };
    const stream = session.request({ ...headers, 'content-type': 'application/grpc' });
    stream.on('error', () => undefined); // It is cut at the end.
    return { session, stream };
  });
  const [bulk, other] = clients;
  try {
    await eventually('the window is wide', () => bulk?.session.remoteSettings?.initialWindowSize === MiB);
    await eventually('so is the connection', () => (bulk?.session.state.remoteWindowSize ?? 0) > MiB);
    other?.stream.end(Buffer.alloc(5)); // An empty request.
    await once(other!.stream, 'response');
    expect(other?.session.remoteSettings?.initialWindowSize).toBe(standardBytes);
  } finally {
    for (const { session } of clients) session.destroy();
    await rpc.close();
  }
});
