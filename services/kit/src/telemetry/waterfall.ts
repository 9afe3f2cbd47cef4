// How a trace is drawn: each span under its parent, in order of start, with its place on the line of time. The
// terminal and the page draw the same rows.
import type { Timestamp } from '@bufbuild/protobuf/wkt';
import type { Span, TraceServiceGetResponse } from '@wrenn/proto/wrenn/v1/trace';

import { msOfDuration } from '../duration.ts';

export interface WaterfallRow {
  readonly span: Span;
  readonly depth: number; // 0: a root, or one whose parent has not come.
  readonly startMs: number; // Since the trace began.
  readonly durationMs: number;
}

export interface Waterfall {
  readonly durationMs: number;
  readonly rows: readonly WaterfallRow[];
  readonly hiddenCount: number; // Spans beyond the most that are drawn.
}

export function waterfallOf({ summary, spans }: TraceServiceGetResponse, maxRows: number): Waterfall {
  const beganMs = startMsOf(summary?.startTime);
  const known = new Set(spans.map(({ spanId }) => spanId));
  const children = Map.groupBy(spans, ({ parentId }) => (known.has(parentId) ? parentId : ''));
  const rows: WaterfallRow[] = [];
  const stack = (children.get('') ?? []).map((span) => ({ span, depth: 0 })).toReversed();
  // What stands under itself, which no sound sender makes, is never reached.
  for (let next = stack.pop(); next && rows.length < maxRows; next = stack.pop()) {
    const { span, depth } = next;
    const durationMs = span.duration ? msOfDuration(span.duration) : 0;
    rows.push({ span, depth, startMs: startMsOf(span.startTime) - beganMs, durationMs });
    const below = (children.get(span.spanId) ?? []).map((child) => ({ span: child, depth: depth + 1 }));
    stack.push(...below.toReversed());
  }
  const durationMs = summary?.duration ? msOfDuration(summary.duration) : 0;
  return { durationMs, rows, hiddenCount: spans.length - rows.length };
}

// `scheduler` of `wrenn-scheduler`.
export function shortService(service: string): string {
  return service.replace(/^wrenn-/, '');
}

// `SandboxService/Pause` of `wrenn.v1.SandboxService/Pause`, and which way it goes where a span says so.
export function shortName({ name, kind }: Pick<Span, 'name' | 'kind'>): string {
  const short = name.replace(/^[a-z0-9_.]+\.([A-Za-z]+\/)/, '$1');
  return kind === clientKind ? `→ ${short}` : short;
}

const clientKind = 3;

function startMsOf(at: Timestamp | undefined): number {
  return at ? Number(at.seconds) * 1000 + at.nanos / 1e6 : 0;
}
