import { create } from '@bufbuild/protobuf';
import { SpanKind, TraceServiceGetResponseSchema } from '@wrenn/proto/wrenn/v1/trace';
import { expect, test } from 'vitest';

import { drawWaterfall } from './waterfall.ts';

function at(ms: number) {
  return { seconds: 1000n, nanos: ms * 1_000_000 };
}

const options = { columns: 80, withDetails: false };

function traceOf(
  spans: { id: string; parent?: string; name: string; startMs: number; ms: number; isError?: boolean }[],
) {
  return create(TraceServiceGetResponseSchema, {
    summary: { traceId: 'a'.repeat(32), startTime: at(0), duration: { seconds: 0n, nanos: 100_000_000 } },
    spans: spans.map(({ id, parent = '', name, startMs, ms, isError = false }) => ({
      spanId: id,
      parentId: parent,
      name,
      service: 'wrenn-scheduler',
      kind: SpanKind.INTERNAL,
      startTime: at(startMs),
      duration: { seconds: 0n, nanos: ms * 1_000_000 },
      isError,
      attributes: { 'wrenn.snapshot.generation': '2' },
    })),
  });
}

test('draws each span under its parent, where and as long as it was', () => {
  const lines = drawWaterfall(
    traceOf([
      { id: 'r', name: 'wrenn.v1.SandboxService/Pause', startMs: 0, ms: 100 },
      { id: 'b', parent: 'r', name: 'kill', startMs: 50, ms: 50 },
      { id: 'a', parent: 'b', name: 'stop', startMs: 50, ms: 25, isError: true },
      { id: 'x', parent: 'never came', name: 'stray', startMs: 0, ms: 1 },
    ]),
    options,
  );
  expect(lines.map((line) => line.slice(0, 20).trimEnd())).toEqual([
    'SandboxService/Pause',
    '  kill',
    '    ✗ stop',
    'stray',
  ]);
  const bars = lines.map((line) => /[█▏▎▍▌▋▊▉]+/.exec(line)?.[0].length ?? 0);
  expect(bars[1]).toBe(Math.round((bars[0] ?? 0) / 2));
  expect(lines[1]?.indexOf('█')).toBeGreaterThan((lines[0]?.indexOf('█') ?? 0) + 10);
  expect(lines[0]).toMatch(/100 ms$/);
});

test('what a span holds reaches no terminal unescaped, and what it says is shown on demand', () => {
  const hostile = traceOf([{ id: 'r', name: 'evil \u001b[2J', startMs: 0, ms: 1 }]);
  const text = drawWaterfall(hostile, { ...options, withDetails: true }).join('\n');
  expect(text).not.toContain('\u001b');
  expect(text).toContain('wrenn.snapshot.generation: 2');
});

test('spans that stand under each other draw nothing and end', () => {
  const circle = traceOf([
    { id: 'a', parent: 'b', name: 'a', startMs: 0, ms: 1 },
    { id: 'b', parent: 'a', name: 'b', startMs: 0, ms: 1 },
  ]);
  expect(drawWaterfall(circle, options)).toEqual(['(2 more spans are not drawn)']);
});
