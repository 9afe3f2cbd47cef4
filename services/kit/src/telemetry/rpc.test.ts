import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace';
import { Health } from '@wrenn/proto/grpc/health/v1/health';
import { LogService } from '@wrenn/proto/wrenn/v1/log';
import { ProcessService } from '@wrenn/proto/wrenn/v1/process';
import { TraceService } from '@wrenn/proto/wrenn/v1/trace';
import { expect, test } from 'vitest';

import { inMs, within } from '../deadlines.ts';
import { WrennError } from '../errors.ts';
import { partialHandlers } from '../testkit/partial.ts';
import { serveForTest } from '../testkit/serve.ts';
import { takeNotes } from './behind-answer.ts';
import { untraced } from './span.ts';
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

test('a refusal is an error to the client, the answer of the server, and described once', async () => {
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      throw new WrennError('SANDBOX_NOT_FOUND', 'no such sandbox');
    },
  });
  await expect(server.lanes.client('control', LogService).readConsole({}, inMs(5000))).rejects.toThrow();
  const [served, called] = (await spans(2)).toSorted((a, b) => a.kind - b.kind);
  for (const span of [served, called]) {
    expect(span?.attributes).toMatchObject({
      'rpc.response.status_code': 'NOT_FOUND',
      'error.type': 'SANDBOX_NOT_FOUND',
    });
  }
  expect(served?.status.code).toBe(SpanStatusCode.UNSET);
  expect(served?.events.map(({ name }) => name)).toEqual(['exception']);
  expect(called?.status).toMatchObject({ code: SpanStatusCode.ERROR, message: 'NOT_FOUND' });
  expect(called?.events).toEqual([]);
});

test('neither message nor stack of a failure gets into a span', async () => {
  await using server = await serveForTest(LogService, {
    readConsole: async () => {
      throw new Error('canary');
    },
  });
  await expect(server.lanes.client('control', LogService).readConsole({}, inMs(5000))).rejects.toThrow();
  const told = await spans(2);
  expect(told.every(({ status }) => status.code === SpanStatusCode.ERROR)).toBe(true);
  const text = JSON.stringify(told.map(({ attributes, events, status }) => ({ attributes, events, status })));
  expect(text).not.toContain('canary');
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

test('looking at traces makes none', async () => {
  await using server = await serveForTest(TraceService, { list: async () => ({ traces: [] }) });
  await server.lanes.client('control', TraceService).list({}, inMs(5000));
  await server.lanes.client('control', Health).check({ service: '' }, inMs(5000));
  expect((await spans(1)).map(({ name }) => name)).toEqual(['grpc.health.v1.Health/Check']);
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

test('probes of health make no span, and what looks around leaves no trace where it asks', async () => {
  await using server = await serveForTest(LogService, { readConsole: async () => ({}) });
  await server.lanes.client('control', Health).check({ service: '' }, inMs(5000));
  await untraced(() => server.lanes.client('control', LogService).readConsole({}, inMs(5000)));
  const [probe] = await spans(1);
  expect(probe).toMatchObject({ name: 'grpc.health.v1.Health/Check', kind: SpanKind.CLIENT });
});

test('what is noted behind the answer is noted at once for whoever ends telemetry', async () => {
  await using server = await serveForTest(LogService, { readConsole: async () => ({}) });
  await server.lanes.client('control', LogService).readConsole({}, inMs(5000));
  takeNotes();
  expect(exporter.getFinishedSpans().map(({ name }) => name)).toContain('wrenn.v1.LogService/ReadConsole');
  await spans(2);
});
