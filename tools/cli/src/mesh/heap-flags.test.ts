import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { runProgram } from '@wrenn/kit/run-program';
import { expect, test } from 'vitest';

import { passingBytes } from './heap-flags.ts';
import { repositoryRoot } from './options.ts';

// Sends itself 256 MiB over gRPC and prints how many full collections that took.
const program = `
  import { PerformanceObserver, constants } from 'node:perf_hooks';
  import * as grpc from '@grpc/grpc-js';

  let full = 0;
  const count = (entries) => {
    for (const { detail } of entries) if (detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR) full++;
  };
  const observer = new PerformanceObserver((list) => count(list.getEntries()));
  observer.observe({ entryTypes: ['gc'] });
  const asItIs = (bytes) => bytes;
  const [requestSerialize, requestDeserialize, responseSerialize, responseDeserialize] = Array(4).fill(asItIs);
  const types = { requestSerialize, requestDeserialize, responseSerialize, responseDeserialize };
  const service = { Take: { path: '/test.Bytes/Take', requestStream: true, responseStream: false, ...types } };
  const server = new grpc.Server();
  server.addService(service, { Take: (call, done) => call.resume().on('end', () => done(null, Buffer.alloc(1))) });
  server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (_error, port) => {
    const Client = grpc.makeClientConstructor(service, 'test.Bytes');
    const client = new Client('127.0.0.1:' + port, grpc.credentials.createInsecure());
    const call = client.Take(() => {
      count(observer.takeRecords());
      process.stdout.write(String(full), () => process.exit());
    });
    let left = 4096;
    const send = () => {
      while (left-- > 0) if (!call.write(Buffer.alloc(65_536))) return call.once('drain', send);
      call.end();
    };
    send();
  });
`;

async function fullCollections(flags: readonly string[]): Promise<number> {
  const args = [...flags, '--input-type=module', '--eval', program];
  return Number(await runProgram(process.execPath, args, { timeoutMs: 50_000 }));
}

test('bytes that are passed on are no reason for full collections, as they are for V8 on its own', async () => {
  expect(await fullCollections(passingBytes)).toBeLessThanOrEqual(1);
  expect(await fullCollections([])).toBeGreaterThanOrEqual(5);
});

test('the command line runs with them too', async () => {
  const script = await readFile(join(repositoryRoot, 'tools/cli/bin/wrenn'), 'utf8');
  expect(script).toContain(`node" ${passingBytes.join(' ')} "`);
});
