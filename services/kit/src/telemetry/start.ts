// Traces leave the process only when the standard OTEL_EXPORTER_OTLP_ENDPOINT names a collector.
// Without one nothing is registered and every span is a no-op.
import { context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider, type SpanProcessor } from '@opentelemetry/sdk-trace';

const closeLimitMs = 2000;

export interface Telemetry {
  close(): Promise<void>;
}

export function startTelemetry(service: string, otlpEndpoint: string | undefined): Telemetry {
  if (!otlpEndpoint) return { close: async () => {} };
  return registerTracing(service, new BatchSpanProcessor({ exporter: new OTLPTraceExporter() }));
}

// Registers tracing for this process; `processor` receives every ended span.
export function registerTracing(service: string, processor: SpanProcessor): Telemetry {
  const provider = new TracerProvider({
    resource: resourceFromAttributes({ 'service.name': `wrenn-${service}`, 'service.namespace': 'wrenn' }),
    spanProcessors: [processor],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  propagation.setGlobalPropagator(new W3CTraceContextPropagator());
  trace.setGlobalTracerProvider(provider);
  return { close: () => withinLimit(provider.shutdown()) };
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
