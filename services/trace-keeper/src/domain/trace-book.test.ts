import { hasReason } from '@wrenn/kit/errors';
import { expect, test } from 'vitest';

import { type KeptSpan, weightOf } from './kept-span.ts';
import { TraceBook } from './trace-book.ts';

let lastSpan = 0;

function span(trace: number, given: Partial<KeptSpan> = {}): KeptSpan {
  return {
    traceId: trace.toString(16).padStart(32, '0'),
    spanId: (lastSpan += 1).toString(16).padStart(16, '0'),
    parentId: '',
    name: 'exec',
    service: 'wrenn-gateway',
    kind: 2,
    startUs: trace * 1000,
    durationUs: 500,
    isError: false,
    statusMessage: '',
    attributes: {},
    events: [],
    links: [],
    ...given,
  };
}

const wide = { maxBytes: 2 ** 30, maxTraces: 1000 };
const all = { sandboxId: '', name: '', limit: 1000 };

test('a trace is known by its root, whichever of its spans came first', () => {
  const book = new TraceBook(wide);
  book.add([span(1, { name: 'statement', parentId: 'b'.repeat(16), startUs: 900 })]);
  book.add([span(1, { name: 'pause', startUs: 1000, durationUs: 4000, isError: true })]);
  const [trace] = book.list(all);
  expect(trace).toMatchObject({ head: { name: 'pause' }, startUs: 900, endUs: 5000, errorCount: 1 });
  expect(trace?.spans).toHaveLength(2);
});

test('lists the newest first, by sandbox and by part of the name', () => {
  const book = new TraceBook(wide);
  const id = `cl-${'0'.repeat(25)}`;
  book.add([span(1, { name: 'Pause', attributes: { 'wrenn.sandbox.id': id } }), span(2), span(3, { name: 'Pause' })]);
  expect(book.list(all).map(({ startUs }) => startUs)).toEqual([3000, 2000, 1000]);
  expect(book.list({ ...all, limit: 1 })).toHaveLength(1);
  expect(book.list({ ...all, sandboxId: id }).map(({ startUs }) => startUs)).toEqual([1000]);
  expect(book.list({ ...all, name: 'aus' })).toHaveLength(2);
});

test('finds a trace by the beginning of its id, unless several begin like that', () => {
  const book = new TraceBook(wide);
  book.add([span(0xab1), span(0xab2)]);
  const { id } = book.get(`${'0'.repeat(29)}ab1`);
  expect(id.endsWith('ab1')).toBe(true);
  expect(() => book.get(`${'0'.repeat(29)}ab`)).toThrow('several traces');
  expect(() => book.get('ffff')).toThrow(expect.toSatisfy((error) => hasReason(error, 'TRACE_NOT_FOUND')));
});

test('a flood of one kind pushes out its own oldest, and nothing else', () => {
  const book = new TraceBook({ maxBytes: 2 ** 30, maxTraces: 10 });
  book.add([span(1, { name: 'pause' })]);
  for (let n = 2; n < 100; n++) book.add([span(n)]);
  expect(book.size.traces).toBe(10);
  const kept = book.list(all);
  expect(kept.at(-1)?.head.name).toBe('pause');
  expect(kept[0]?.startUs).toBe(99_000);
});

test('never holds more bytes than it may, and one that is larger than all of that costs no other', () => {
  const one = span(1, { attributes: { note: 'x'.repeat(1000) } });
  const maxBytes = 20 * weightOf(one);
  const book = new TraceBook({ maxBytes, maxTraces: 1000 });
  for (let n = 1; n < 200; n++) {
    book.add([span(n, { name: `kind ${n % 3}`, attributes: { note: 'x'.repeat(1000) } })]);
    expect(book.size.bytes).toBeLessThanOrEqual(maxBytes);
  }
  expect(book.list(all)).toHaveLength(book.size.traces);
  book.add([span(999, { attributes: { note: 'x'.repeat(maxBytes) } })]);
  expect(book.size).toMatchObject({
    traces: book.list(all).length,
    bytes: expect.toSatisfy((n: number) => n <= maxBytes),
  });
  expect(book.list(all).map(({ startUs }) => startUs)).not.toContain(999_000);
});

test('a trace without end keeps its first spans and counts the others', () => {
  const book = new TraceBook(wide);
  book.add(Array.from({ length: 6000 }, () => span(1)));
  expect(book.get('0'.repeat(31) + '1').spans).toHaveLength(5000);
  expect(book.spans).toEqual({ taken: 5000, dropped: 1000 });
});
