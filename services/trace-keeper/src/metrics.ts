import type { Metrics } from '@wrenn/kit/metrics/registry';

import type { TraceBook } from './domain/trace-book.ts';

export function countTraces(metrics: Metrics, book: TraceBook, intake: { readonly refusedCount: number }): void {
  metrics.read('gauge', { name: 'wrenn_trace_keeper_traces', help: 'Traces that are kept.' }, () => [
    [book.size.traces],
  ]);
  metrics.read('gauge', { name: 'wrenn_trace_keeper_bytes', help: 'About what kept traces take in memory.' }, () => [
    [book.size.bytes],
  ]);
  const spans = { name: 'wrenn_trace_keeper_spans_total', help: 'Spans that came, by what became of them.' };
  metrics.read('counter', { ...spans, labels: ['outcome'] }, () => [
    [book.spans.taken, { outcome: 'taken' }],
    [book.spans.dropped, { outcome: 'dropped' }],
  ]);
  const refused = { name: 'wrenn_trace_keeper_refused_exports_total', help: 'Exports that were not taken.' };
  metrics.read('counter', refused, () => [[intake.refusedCount]]);
}
