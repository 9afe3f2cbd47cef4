// What becomes of recorded spans, as OpenTelemetry's SDK tells of itself, counted among the process's own metrics: so that
// a trace with holes is told from one that had no more.
import { type Counter, type Meter, type MeterProvider, createNoopMeter } from '@opentelemetry/api';

import { processMetrics } from '../metrics/process-metrics.ts';

// Of its semantic conventions: spans by `error.type`, which is absent for those that were exported.
const processedSpans = 'otel.sdk.processor.span.processed';

const spans = processMetrics.counter({
  name: 'wrenn_process_spans_total',
  help: 'Recorded spans by what became of them; too many that waited are dropped.',
  labels: ['outcome'],
});

function outcomeOf(errorType: unknown): string {
  if (errorType === undefined) return 'exported';
  return errorType === 'queue_full' ? 'dropped' : 'failed';
}

const counter: Counter = {
  add: (count, attributes) => spans.add(count, { outcome: outcomeOf(attributes?.['error.type']) }),
};

export const spanFigures: MeterProvider = {
  getMeter(): Meter {
    const meter = createNoopMeter();
    const uncounted = meter.createCounter('');
    meter.createCounter = (name) => (name === processedSpans ? counter : uncounted);
    return meter;
  },
};
