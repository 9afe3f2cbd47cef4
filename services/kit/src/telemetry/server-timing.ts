// What a callee outside the mesh says of where the time of a call went, in a Server-Timing header (W3C): spans under
// the call's, marked as that callee's word. It is held to what we know ourselves: few, short names, and no longer
// than the call took. The first is the whole, the others its steps, one after the other.
import type { Span } from '@opentelemetry/api';
import { ROOT_CONTEXT, trace } from '@opentelemetry/api';

import { endSpan, startSpan } from './span.ts';

export interface ReportedStep {
  readonly name: string;
  readonly durationMs: number;
}

const maxSteps = 8;
const maxChars = 512;
const stepPattern = /^([a-z][a-z-]{0,31});dur=(\d{1,9}(?:\.\d{1,6})?)$/;

// Undefined unless all of it is sound.
export function reportedSteps(header: string, limitMs: number): ReportedStep[] | undefined {
  if (header.length > maxChars) return undefined;
  const steps: ReportedStep[] = [];
  for (const entry of header.split(', ')) {
    const [, name, duration] = stepPattern.exec(entry) ?? [];
    if (name === undefined || steps.length === maxSteps) return undefined;
    steps.push({ name, durationMs: Number(duration) });
  }
  const [whole, ...parts] = steps;
  const sumMs = parts.reduce((sum, { durationMs }) => sum + durationMs, 0);
  return whole && whole.durationMs <= limitMs && sumMs <= whole.durationMs ? steps : undefined;
}

// The whole ended when its header came, at `endMs`; how long that was on its way nobody knows.
export function addReportedSteps(
  call: Span,
  by: string,
  header: string,
  { endMs, limitMs }: { readonly endMs: number; readonly limitMs: number },
): void {
  const [whole, ...parts] = reportedSteps(header, limitMs) ?? [];
  if (!whole) return;
  const attributes = { 'wrenn.reported_by': by };
  let atMs = endMs - whole.durationMs;
  const inCall = trace.setSpan(ROOT_CONTEXT, call);
  const span = startSpan(`${by}: ${whole.name}`, { startTime: atMs, attributes }, inCall);
  const inWhole = trace.setSpan(inCall, span);
  for (const { name, durationMs } of parts) {
    const step = startSpan(`${by}: ${name}`, { startTime: atMs, attributes }, inWhole);
    atMs += durationMs;
    endSpan(step, atMs);
  }
  endSpan(span, endMs);
}
