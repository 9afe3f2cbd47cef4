import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { expect, test } from 'vitest';

import { inMs, within } from '../deadlines.ts';
import { WrennError } from '../errors.ts';
import { partialHandlers } from '../testkit/partial.ts';
import { serveForTest } from '../testkit/serve.ts';
import { registerTracing } from './start.ts';

const exporter = new InMemorySpanExporter();
registerTracing('test', new SimpleSpanProcessor({ exporter }));

async function spans(count: number) {
  await expect.poll(() => exporter.getFinishedSpans().length).toBe(count);
  const ended = [...exporter.getFinishedSpans()];
  exporter.reset();
  return ended;
}

test('one trace covers a call over two hops, each span the child of its caller', async () => {
  await using last = await serveForTest(LogService, { readConsole: async () => ({}) });
  await using first = await serveForTest(LogService, {
    readConsole: async (_request, call) => {
      await Promise.resolve();
      return last.lanes.client('control', LogService).readConsole({}, within(call, 5000));
    },
  });
  await first.lanes.client('interactive', LogService).readConsole({}, inMs(5000));
  const ended = await spans(4);
  expect(new Set(ended.map((span) => span.spanContext().traceId)).size).toBe(1);
  const chain = [];
  let span = ended.find(({ parentSpanContext }) => !parentSpanContext);
  while (span) {
    const { spanId } = span.spanContext();
    chain.push([SpanKind[span.kind], span.attributes['wrenn.lane']]);
    span = ended.find(({ parentSpanContext }) => parentSpanContext?.spanId === spanId);
  }
  expect(chain).toEqual([
    ['CLIENT', 'interactive'],
    ['SERVER', undefined],
    ['CLIENT', 'control'],
    ['SERVER', undefined],
  ]);
});

test('a failed call marks its spans with code and reason', async () => {
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      throw new WrennError('SANDBOX_NOT_FOUND', 'no such sandbox');
    },
  });
  await expect(server.lanes.client('control', LogService).readConsole({}, inMs(5000))).rejects.toThrow();
  for (const span of await spans(2)) {
    expect(span.status).toMatchObject({ code: SpanStatusCode.ERROR, message: 'NOT_FOUND' });
    expect(span.attributes['rpc.grpc.status_code']).toBe(5);
  }
});

test('a stream is one span, whatever it carries, and a reader that leaves ends it without an error', async () => {
  await using server = await serveForTest(
    ProcessService,
    partialHandlers(ProcessService, {
      start: async function* start() {
        for (let n = 0; n < 100; n++) yield {};
      },
    }),
  );
  const client = server.lanes.client('interactive', ProcessService);
  let count = 0;
  for await (const _ of client.start({})) count++;
  expect(count).toBe(100);
  expect(await spans(2)).toHaveLength(2);
  for await (const _ of client.start({})) break;
  const [left] = (await spans(2)).filter(({ kind }) => kind === SpanKind.CLIENT);
  expect(left?.status.code).toBe(SpanStatusCode.UNSET);
});

test('concurrent calls keep their traces apart', async () => {
  await using last = await serveForTest(LogService, { readConsole: async () => ({}) });
  await using first = await serveForTest(LogService, {
    readConsole: async (_request, call) => last.lanes.client('control', LogService).readConsole({}, within(call, 5000)),
  });
  const client = first.lanes.client('control', LogService);
  await Promise.all(Array.from({ length: 10 }, () => client.readConsole({}, inMs(5000))));
  const perTrace = Map.groupBy(await spans(40), (span) => span.spanContext().traceId);
  expect(perTrace.size).toBe(10);
  expect([...perTrace.values()].every((trace) => trace.length === 4)).toBe(true);
});
