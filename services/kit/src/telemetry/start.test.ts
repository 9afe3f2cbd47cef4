// startTelemetry registers for the whole process, so each test runs it in one of its own.
import { execFile } from 'node:child_process';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';

import { expect, test } from 'vitest';

const run = promisify(execFile);
const startModule = new URL('./start.ts', import.meta.url).href;
const metricsModule = new URL('../metrics/process-metrics.ts', import.meta.url).href;
const rpcModule = new URL('../lanes.ts', import.meta.url).href;

// Makes one span, closes, and prints whether the span was recorded and how long closing took.
const script = `
  import { trace } from '@opentelemetry/api';
  import { startTelemetry } from ${JSON.stringify(startModule)};
  import ${JSON.stringify(rpcModule)};
  const telemetry = startTelemetry('test', process.env);
  const span = trace.getTracer('wrenn').startSpan('one');
  const isRecorded = span.isRecording();
  span.end();
  const startMs = performance.now();
  await telemetry.close().catch((error) => console.error(error.message));
  console.log(JSON.stringify({ isRecorded, closingMs: performance.now() - startMs }));
`;

async function oneSpan(endpoint?: string): Promise<{ isRecorded: boolean; closingMs: number }> {
  return JSON.parse(await outputOf(script, endpoint ? { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } : {}));
}

async function outputOf(code: string, env: NodeJS.ProcessEnv): Promise<string> {
  const options = { env: { PATH: process.env['PATH'], ...env }, cwd: new URL('..', import.meta.url).pathname };
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code], options);
  return stdout;
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
  expect(await oneSpan(await listening(collector))).toMatchObject({ isRecorded: true });
  expect(posts).toHaveLength(1);
  expect(posts[0]!.url).toBe('/v1/traces');
  expect(posts[0]!.body).toContain('wrenn-test');
  expect(posts[0]!.body).toContain('one');
  collector.close();
});

test('a collector that is away or mute does not hold a service up', { timeout: 60_000 }, async () => {
  const mute = createServer(() => undefined);
  const [away, silent] = await Promise.all([oneSpan('http://127.0.0.1:1'), oneSpan(await listening(mute))]);
  expect(away.closingMs).toBeLessThan(4000);
  expect(silent.closingMs).toBeLessThan(4000);
  mute.closeAllConnections();
  mute.close();
});

test('without a collector nothing is recorded', async () => {
  expect(await oneSpan()).toMatchObject({ isRecorded: false });
});

// Makes more spans than may wait, and prints what became of them.
const countingScript = `
  import { trace } from '@opentelemetry/api';
  import { startTelemetry } from ${JSON.stringify(startModule)};
  import { processMetrics } from ${JSON.stringify(metricsModule)};
  const telemetry = startTelemetry('test', process.env);
  const tracer = trace.getTracer('wrenn');
  for (let i = 0; i < 30; i++) tracer.startSpan('one').end();
  await telemetry.close().catch(() => undefined);
  const { samples } = (await processMetrics.collect()).find(({ name }) => name === 'wrenn_process_spans');
  console.log(JSON.stringify(Object.fromEntries([...samples].map(({ labels, value }) => [labels.outcome, value]))));
`;

async function outcomes(endpoint: string): Promise<unknown> {
  const limits = { OTEL_BSP_MAX_QUEUE_SIZE: '10', OTEL_BSP_MAX_EXPORT_BATCH_SIZE: '10' };
  return JSON.parse(await outputOf(countingScript, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...limits }));
}

test('what became of spans is counted: exported, refused by the collector, or dropped since too many waited', async () => {
  const answers = { status: 200 };
  const collector = createServer((request, response) => {
    request.resume().on('end', () => response.writeHead(answers.status).end());
  });
  const endpoint = await listening(collector);
  expect(await outcomes(endpoint)).toEqual({ exported: 20, dropped: 10 });
  answers.status = 400;
  expect(await outcomes(endpoint)).toEqual({ failed: 20, dropped: 10 });
  collector.close();
});
