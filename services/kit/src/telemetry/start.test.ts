// startTelemetry registers for the whole process, so each test runs it in one of its own.
import { execFile } from 'node:child_process';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';

import { expect, test } from 'vitest';

const run = promisify(execFile);
const startModule = new URL('./start.ts', import.meta.url).href;
const rpcModule = new URL('../lanes.ts', import.meta.url).href;

// Makes one span, closes, and prints how long closing took.
const script = `
  import { trace } from '@opentelemetry/api';
  import { startTelemetry } from ${JSON.stringify(startModule)};
  import ${JSON.stringify(rpcModule)};
  const telemetry = startTelemetry('test', process.env);
  trace.getTracer('wrenn').startSpan('one').end();
  const startMs = performance.now();
  await telemetry.close().catch((error) => console.error(error.message));
  console.log(Math.round(performance.now() - startMs));
`;

async function closingMs(endpoint?: string): Promise<number> {
  const env = { PATH: process.env['PATH'], ...(endpoint && { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }) };
  const options = { env, cwd: new URL('..', import.meta.url).pathname };
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], options);
  return Number(stdout);
}

async function listening(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

test('spans reach the collector that the standard variable names, under the name of the service', async () => {
  const posts: { url: string | undefined; body: string }[] = [];
  const collector = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    request.on('end', () => {
      posts.push({ url: request.url, body: Buffer.concat(pieces).toString('latin1') });
      response.end();
    });
  });
  await closingMs(await listening(collector));
  expect(posts).toHaveLength(1);
  expect(posts[0]!.url).toBe('/v1/traces');
  expect(posts[0]!.body).toContain('wrenn-test');
  expect(posts[0]!.body).toContain('one');
  collector.close();
});

test('a collector that is away or mute does not hold a service up', { timeout: 60_000 }, async () => {
  const mute = createServer(() => undefined);
  const [away, silent] = await Promise.all([closingMs('http://127.0.0.1:1'), closingMs(await listening(mute))]);
  expect(away).toBeLessThan(4000);
  expect(silent).toBeLessThan(4000);
  mute.closeAllConnections();
  mute.close();
});

test('without a collector nothing is registered', async () => {
  expect(await closingMs()).toBeLessThan(50);
});
