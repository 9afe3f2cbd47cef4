// Traces leave the process only when the standard OTEL_EXPORTER_OTLP_ENDPOINT names a collector.
// Without one nothing is registered and every span is a no-op.
import { context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider, type SpanProcessor } from '@opentelemetry/sdk-trace';

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
  return { close: () => provider.shutdown() };
}
