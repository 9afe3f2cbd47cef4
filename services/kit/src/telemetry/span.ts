// Spans of what goes on between two calls.
import {
  type Attributes,
  type Context,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  type SpanOptions,
  context,
  propagation,
  trace,
} from '@opentelemetry/api';

import { recordFailure } from './failures.ts';
import { SpanClock } from './span-clock.ts';

export type { Span, SpanContext };
const tracer = trace.getTracer('wrenn');
const clock = new SpanClock();

// Since 1970; the clock of all spans.
export function nowMs(): number {
  return clock.nowMs();
}

// Begins now unless `options` say when; whoever starts it ends it.
export function startSpan(name: string, options: SpanOptions, parent: Context = context.active()): Span {
  return tracer.startSpan(name, { startTime: clock.nowMs(), ...options }, parent);
}

export function endSpan(span: Span, atMs: number = clock.nowMs()): void {
  span.end(atMs);
}

// Runs `work` in a span of its own, under the current one.
export function inSpan<T>(name: string, attributes: Attributes, work: (span: Span) => Promise<T>): Promise<T> {
  return within(name, { attributes }, context.active(), work);
}

// The same for a caller that says in W3C's `traceparent` which trace it is in; without one there is no span. For calls
// in such numbers that each of them cannot begin a trace.
export function inCallersTrace<T>(
  traceparent: string | undefined,
  name: string,
  attributes: Attributes,
  work: () => Promise<T>,
): Promise<T> {
  if (traceparent === undefined) return work();
  const parent = propagation.extract(ROOT_CONTEXT, { traceparent });
  return within(name, { kind: SpanKind.SERVER, attributes }, parent, work);
}

// Says more of what is being done.
export function setAttributes(attributes: Attributes): void {
  trace.getActiveSpan()?.setAttributes(attributes);
}

// Notes a retry or a change of state.
export function addEvent(name: string, attributes: Attributes = {}): void {
  trace.getActiveSpan()?.addEvent(name, attributes, clock.nowMs());
}

// For a question to something that makes no spans of its own; whoever starts it ends it.
export function startClientSpan(name: string): Span {
  return startSpan(name, { kind: SpanKind.CLIENT });
}

// What another program says that it has just done, and took so long for.
export function addReportedSpan(name: string, durationMs: number, attributes: Attributes, endMs = nowMs()): void {
  endSpan(startSpan(name, { startTime: endMs - durationMs, attributes }), endMs);
}

// For a program that is started: which trace it works in.
export function traceEnvironment(): Record<string, string> {
  const carrier: Record<string, string> = {};
  propagation.inject(context.active(), carrier);
  const { traceparent } = carrier;
  return traceparent === undefined ? {} : { TRACEPARENT: traceparent };
}

// The span that goes on now, to be linked to from what it brings about later.
export function currentCause(): SpanContext | undefined {
  return trace.getActiveSpan()?.spanContext();
}

// Says that what goes on is, or waits for, a part of another trace too.
export function linkTo(cause: SpanContext | undefined): void {
  if (cause) trace.getActiveSpan()?.addLink({ context: cause });
}

// For what somebody else will call on behalf of whoever is here now.
export function inThisContext<T extends (...args: never[]) => unknown>(call: T): T {
  return context.bind(context.active(), call);
}

// Runs what nobody waits for in a trace of its own, linked to what caused it.
export function inOwnTrace<T>(
  name: string,
  attributes: Attributes,
  causes: readonly (SpanContext | undefined)[],
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const links = causes.flatMap((cause): Link[] => (cause ? [{ context: cause }] : []));
  return within(name, { root: true, attributes, links }, context.active(), work);
}

// Looking whether there is something to do, again and again, leaves no trace here nor where it asks: what it finds
// and does, it does in a trace of its own.
export function untraced<T>(work: () => T): T {
  const span = trace.wrapSpanContext(unsampled);
  return context.with(trace.setSpan(context.active(), span), work);
}

// Valid and not sampled: so it travels, and those who are asked know.
const unsampled: SpanContext = { traceId: `${'0'.repeat(31)}1`, spanId: `${'0'.repeat(15)}1`, traceFlags: 0 };

async function within<T>(
  name: string,
  options: SpanOptions,
  parent: Context,
  work: (span: Span) => Promise<T>,
): Promise<T> {
  const span = startSpan(name, options, parent);
  try {
    return await context.with(trace.setSpan(parent, span), () => work(span));
  } catch (error) {
    recordFailure(span, error);
    throw error;
  } finally {
    endSpan(span);
  }
}
