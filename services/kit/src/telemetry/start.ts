// Traces leave the process only when a standard OTEL_EXPORTER_OTLP_* variable names a collector. Without one
// nothing is registered and every span is a no-op. A collector that is away, mute or slow costs spans, never time.
import { context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, type Sampler, type SpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';

import { newInstanceId } from '../ids.ts';
import { takeNotes } from './behind-answer.ts';
import { watchEventLoop } from './process-load.ts';
import { type SpanQueue, readTraceSettings } from './settings.ts';
import { spanFigures } from './span-figures.ts';

const closeLimitMs = 2000;
// Nothing we record is longer; what a mistake records is cut.
const maxValueChars = 1024;

export interface Telemetry {
  close(): Promise<void>;
}

export function startTelemetry(service: string, env: NodeJS.ProcessEnv): Telemetry {
  const { url, sampler, queue } = readTraceSettings(env);
  watchEventLoop();
  if (!url) return { close: async () => {} };
  return registerTracing(service, batched(url, queue), sampler);
}

// Registers tracing for this process or thread; `processor` receives every ended span.
export function registerTracing(service: string, processor: SpanProcessor, sampler?: Sampler): Telemetry {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({
      'service.name': `wrenn-${service}`,
      'service.namespace': 'wrenn',
      'service.instance.id': newInstanceId(),
      'process.pid': process.pid,
    }),
    spanProcessors: [processor],
    spanLimits: { attributeValueLengthLimit: maxValueChars, attributeCountLimit: 64, eventCountLimit: 64 },
    ...(sampler && { sampler }),
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  return {
    close() {
      takeNotes();
      return withinLimit(provider.shutdown());
    },
  };
}

function batched(url: string, { maxSpans, maxBatch, delayMs, timeoutMs }: SpanQueue): SpanProcessor {
  return new BatchSpanProcessor({
    exporter: new OTLPTraceExporter({ url }),
    maxQueueSize: maxSpans,
    maxExportBatchSize: maxBatch,
    scheduledDelayMillis: delayMs,
    exportTimeoutMillis: timeoutMs,
    selfObsMeterProvider: spanFigures,
  });
}

// The exporter tries a collector that does not answer for 10 s; no service stops later for its sake.
async function withinLimit(flushed: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('the last spans could not be exported')), closeLimitMs);
  });
  try {
    await Promise.race([flushed, limit]);
  } finally {
    clearTimeout(timer);
  }
}
