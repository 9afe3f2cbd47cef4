import { isSpanContextValid, trace } from '@opentelemetry/api';
import { type Logger, destination, pino, stdSerializers, stdTimeFunctions } from 'pino';

import { withSourcePositions } from './source-positions.ts';

export type Log = Logger;
export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const;
export type LogLevel = (typeof logLevels)[number];

// JSON lines on stdout: time, level, service, msg, then what the event is about. What is logged within a trace names it.
export function openLog(service: string, level: LogLevel = 'info'): Log {
  return pino(
    {
      level,
      base: { service },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: traceIds,
      serializers: { err: serializedError },
    },
    destination({ fd: 1, sync: true }),
  );
}

function serializedError(error: unknown): unknown {
  const serialized = stdSerializers.err(error as Error);
  if (!(error instanceof Error)) return serialized;
  return { ...serialized, stack: withSourcePositions(serialized.stack) };
}

// By the names that OpenTelemetry gives them in logs that are not its own.
function traceIds() {
  const span = trace.getActiveSpan()?.spanContext();
  return span && isSpanContextValid(span) ? { trace_id: span.traceId, span_id: span.spanId } : {};
}
