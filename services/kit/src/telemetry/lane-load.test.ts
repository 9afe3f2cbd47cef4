import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { FilesystemService } from '@wrenn/proto/wrenn/v1/filesystem';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { SpanKind } from '@opentelemetry/api';
import { expect, test } from 'vitest';

import { inMs } from '../deadlines.ts';
import { processMetrics } from '../metrics/process-metrics.ts';
import { partialHandlers } from '../testkit/partial.ts';
import { serveForTest } from '../testkit/serve.ts';
import { registerTracing } from './start.ts';
import { watchEventLoop } from './process-load.ts';

const exporter = new InMemorySpanExporter();
registerTracing('test', new SimpleSpanProcessor({ exporter }));
watchEventLoop();

async function consoleSpan() {
  const named = () =>
    exporter.getFinishedSpans().filter(({ name, kind }) => name.endsWith('ReadConsole') && kind === SpanKind.CLIENT);
  await expect.poll(() => named().length).toBe(1);
  const [span] = named();
  exporter.reset();
  return span?.attributes ?? {};
}

async function gaugeOf(name: string, lane: string): Promise<number | undefined> {
  const families = await processMetrics.collect();
  const samples = families.find((family) => family.name === name)?.samples ?? [];
  return samples.find(({ labels }) => labels['lane'] === lane)?.value;
}

async function countOf(name: string, lane: string): Promise<number> {
  const families = await processMetrics.collect();
  const samples = families.find((family) => family.name === name)?.samples ?? [];
  const buckets = samples.find(({ labels }) => labels['lane'] === lane)?.buckets ?? [];
  return buckets.reduce((sum, { count }) => sum + count, 0);
}

test('a call behind bytes on its own lane says how many stand there; one on another lane meets none', async () => {
  const gate = Promise.withResolvers<void>();
  await using bytes = await serveForTest(
    FilesystemService,
    partialHandlers(FilesystemService, {
      write: async () => {
        await gate.promise; // Reads nothing.
        return {};
      },
    }),
    (rpc) => rpc.add(LogService, partialHandlers(LogService, { readConsole: async () => ({}) })),
  );
  const written = { part: { case: 'data' as const, value: Buffer.alloc(64 * 1024) } };
  const pieces = async function* pieces() {
    for (let n = 0; n < 16; n++) yield written;
  };
  const stuck = bytes.lanes.client('interactive', FilesystemService).write(pieces(), inMs(30_000));
  const together = bytes.lanes.client('interactive', LogService);
  await expect
    .poll(async () => {
      await together.readConsole({}, inMs(5000));
      return (await consoleSpan())['wrenn.lane.unsent_bytes'];
    })
    .toBeGreaterThan(10_000);
  await together.readConsole({}, inMs(5000));
  expect(await consoleSpan()).toMatchObject({ 'wrenn.lane': 'interactive', 'wrenn.lane.in_flight': 2 });

  await bytes.lanes.client('control', LogService).readConsole({}, inMs(5000));
  expect(await consoleSpan()).toMatchObject({
    'wrenn.lane': 'control',
    'wrenn.lane.in_flight': 1,
    'wrenn.lane.unsent_bytes': 0,
  });
  const unsent = await gaugeOf('wrenn_rpc_lane_unsent_bytes', 'interactive');
  expect(unsent).toBeGreaterThan(10_000);
  expect(await gaugeOf('wrenn_rpc_lane_open_calls', 'interactive')).toBe(1);
  expect(await gaugeOf('wrenn_rpc_lane_unsent_bytes', 'control')).toBe(0);
  gate.resolve();
  await stuck;
  expect(await gaugeOf('wrenn_rpc_lane_unsent_bytes', 'interactive')).toBe(0);
});

test('a call says how long it waited for its connection, for its first message, and for the event loop', async () => {
  const before = await countOf('wrenn_rpc_queued_seconds', 'bulk');
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      const untilMs = performance.now() + 150;
      while (performance.now() < untilMs); // Holds up everybody.
      return {};
    },
  });
  await server.lanes.client('bulk', LogService).readConsole({}, inMs(5000));
  const told = await consoleSpan();
  const queuedMs = Number(told['wrenn.rpc.queued_ms']);
  const firstMs = Number(told['wrenn.rpc.first_message_ms']);
  expect(queuedMs).toBeGreaterThan(0);
  expect(firstMs).toBeGreaterThan(queuedMs + 149);
  expect(told['wrenn.event_loop.delay_ms']).toBeGreaterThan(100);
  expect(await countOf('wrenn_rpc_queued_seconds', 'bulk')).toBe(before + 1);
  expect(await countOf('wrenn_rpc_first_message_seconds', 'bulk')).toBe(before + 1);
});
