// A failure is described once, by the innermost span that sees it; the spans around that one only say that they
// failed. Neither messages nor stacks go into spans: they may hold what belongs to a guest or its owner.
import { type Span, SpanStatusCode } from '@opentelemetry/api';

import { WrennError } from '../errors.ts';

const recorded = new WeakSet<object>();

// Some other span, here or in another process, has it.
export function noteRecorded(error: object): void {
  recorded.add(error);
}

// Marks a span as failed.
export function recordFailure(span: Span, error: unknown): void {
  const type = typeOf(error);
  span.setAttribute('error.type', type);
  span.setStatus({ code: SpanStatusCode.ERROR, message: type });
  describeFailure(span, error);
}

// Adds the event that describes it, unless a span has it already.
export function describeFailure(span: Span, error: unknown): void {
  if (typeof error !== 'object' || error === null) return;
  if (!isRecorded(error)) span.addEvent('exception', { 'exception.type': typeOf(error) });
  recorded.add(error);
}

// The reason of a failure that has one, else what kind of error it is.
export function typeOf(error: unknown): string {
  if (error instanceof WrennError) return error.reason;
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}

function isRecorded(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  if (recorded.has(error)) return true;
  if (error instanceof AggregateError && error.errors.some(isRecorded)) return true;
  return error instanceof Error && isRecorded(error.cause);
}
