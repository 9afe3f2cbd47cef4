// What OpenTelemetry's own exporter, in the kit, sends is what the rpc tells.
import { msOfDuration, timestampDate } from '@wrenn/kit/duration';
import { inMs } from '@wrenn/kit/deadlines';
import { openLog } from '@wrenn/kit/log';
import { addEvent, inOwnTrace, inSpan } from '@wrenn/kit/telemetry/span';
import { startTelemetry } from '@wrenn/kit/telemetry/start';
import { serveForTest } from '@wrenn/kit/testkit/serve';
import { SpanKind, TraceService } from '@wrenn/proto/wrenn/v1/trace';
import { afterAll, expect, test } from 'vitest';

import { OtlpIntake } from '../src/adapters/otlp-intake.ts';
import { TraceBook } from '../src/domain/trace-book.ts';
import { spansOf } from '../src/messages.ts';
import { traceHandlers } from '../src/server.ts';

const sandboxId = `cl-${'7'.repeat(25)}`;
const book = new TraceBook({ maxBytes: 2 ** 24, maxTraces: 100 });
const intake = new OtlpIntake((bytes) => book.add(spansOf(bytes)), openLog('test', 'silent'));
const port = await intake.listen('127.0.0.1:0');
const url = `http://127.0.0.1:${port}/v1/traces`;
startTelemetry('test', { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url });
const server = await serveForTest(TraceService, traceHandlers(book));
const traces = server.lanes.client('control', TraceService);

afterAll(async () => {
  await intake.close();
  await server[Symbol.asyncDispose]();
});

test('spans come with service, times, attributes, events, links and failures', async () => {
  const cause = { traceId: 'c'.repeat(32), spanId: 'd'.repeat(16), traceFlags: 1 };
  const beganMs = Date.now();
  const failing = inOwnTrace('commit', { 'wrenn.sandbox.id': sandboxId, 'wrenn.snapshot.generation': 3 }, [cause], () =>
    inSpan('seal', { ratio: 0.5, isWhole: true }, async () => {
      addEvent('retry', { 'wrenn.attempt': 1 });
      throw Object.assign(new Error('no room'), { code: 'ENOSPC' });
    }),
  );
  await expect(failing).rejects.toThrow('no room');
  const list = async () => (await traces.list({ sandboxId, name: 'comm' }, inMs(5000))).traces;
  await expect.poll(list).toHaveLength(1);
  const found = await list();
  const { summary, spans } = await traces.get({ traceId: found[0]!.traceId.slice(0, 8) }, inMs(5000));
  expect(summary).toMatchObject({ name: 'commit', service: 'wrenn-test', spanCount: 2, errorCount: 2, isError: true });
  expect(summary?.sandboxIds).toEqual([sandboxId]);
  const [commit, seal] = spans;
  expect(commit).toMatchObject({ parentId: '', kind: SpanKind.INTERNAL, isError: true, statusMessage: 'ENOSPC' });
  expect(commit?.attributes).toMatchObject({ 'wrenn.snapshot.generation': '3', 'error.type': 'ENOSPC' });
  expect(commit?.links.map(({ traceId }) => traceId)).toEqual([cause.traceId]);
  expect(seal).toMatchObject({ parentId: commit?.spanId, attributes: { ratio: '0.5', isWhole: 'true' } });
  expect(seal?.events.map(({ name }) => name)).toEqual(['retry', 'exception']);
  expect(timestampDate(commit!.startTime!).getTime()).toBeGreaterThanOrEqual(beganMs - 1);
  expect(msOfDuration(commit!.duration!)).toBeGreaterThan(0);
});

test.each([
  ['GET', '/v1/traces', 'application/x-protobuf', '', 405],
  ['POST', '/v1/metrics', 'application/x-protobuf', '', 404],
  ['POST', '/v1/traces', 'application/json', '{}', 415],
  ['POST', '/v1/traces', 'application/x-protobuf', '\xff\xff\xff\xff', 400],
  ['POST', '/v1/traces', 'application/x-protobuf', 'x'.repeat(5 * 1024 * 1024), 413],
] as const)('%s %s of %s is refused, and the next export is taken', async (method, path, type, body, status) => {
  const request = {
    method,
    headers: { 'content-type': type },
    ...(method === 'POST' && { body: Buffer.from(body, 'latin1') }),
  };
  const answered = await fetch(`http://127.0.0.1:${port}${path}`, request).then(
    (answer) => answer.status,
    (error: unknown) => error,
  );
  // A sender that is refused in the middle of its body may see the connection end first.
  if (status === 413 && answered instanceof Error) expect(answered.message).toBe('fetch failed');
  else expect(answered).toBe(status);
  const empty = await fetch(url, { method: 'POST', headers: { 'content-type': 'application/x-protobuf' }, body: '' });
  expect(empty.status).toBe(200);
});

test('an unknown trace is not found, and an id that is none is refused', async () => {
  await expect(traces.get({ traceId: 'abcd' }, inMs(5000))).rejects.toMatchObject({ reason: 'TRACE_NOT_FOUND' });
  for (const traceId of ['', 'abc', 'XYZW', 'f'.repeat(33)]) {
    await expect(traces.get({ traceId }, inMs(5000))).rejects.toMatchObject({ reason: 'INVALID_FIELD' });
  }
});
