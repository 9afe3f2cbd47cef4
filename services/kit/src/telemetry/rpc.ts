// One span per call and trace context in its metadata, both ways. Streams get one span too, with no
// event per message: hot streams stay cheap (docs/decisions/0006-own-rpc-spans.md).
import {
  type Attributes,
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  type TextMapGetter,
  type TextMapSetter,
  context as contextApi,
  propagation,
  trace,
} from '@opentelemetry/api';
import { isAbortError } from 'abort-controller-x';
import { ClientError, type Metadata, ServerError, Status } from 'nice-grpc-common';

import { WrennError, codeOf } from '../errors.ts';
import { isSandboxId } from '../ids.ts';
import { behindAnswer } from './behind-answer.ts';
import { describeFailure, typeOf } from './failures.ts';
import type { LaneCall, LaneLoad } from './lane-load.ts';
import { attendLoop, loopDelayMs } from './process-load.ts';
import { addReportedSteps } from './server-timing.ts';
import { endSpan, nowMs, startSpan } from './span.ts';

const setter: TextMapSetter<Metadata> = { set: (carrier, key, value) => void carrier.set(key, value) };
const getter: TextMapGetter<Metadata> = {
  keys: (carrier) => [...carrier].map(([key]) => key),
  get: (carrier, key) => {
    const value = carrier.get(key);
    return typeof value === 'string' ? value : undefined;
  },
};
const traceparentKey = 'traceparent';

// Looking at traces makes none.
const ofTraces = /^\/wrenn\.v1\.TraceService\//;
// Asked all the time by whoever watches over a service, and by tools: not worth a trace.
const untold = /^\/grpc\.(health|reflection)\./;
// What gRPC's conventions count as a fault of the server; anything else is its answer.
const faults: ReadonlySet<Status> = new Set([
  Status.UNKNOWN,
  Status.DEADLINE_EXCEEDED,
  Status.UNIMPLEMENTED,
  Status.INTERNAL,
  Status.UNAVAILABLE,
  Status.DATA_LOSS,
]);

// The caller's side of a call.
export interface ClientSpan {
  came(message: unknown): void;
  failed(error: unknown): void;
  // What a callee outside the mesh tells in its header of where the time went; one of the mesh makes spans itself.
  reported(by: string, header: Metadata): void;
  end(): void;
}

// Begins now, and sends its context along in `metadata`.
export function clientSpan(path: string, lane: LaneLoad, metadata: Metadata, request: unknown): ClientSpan | undefined {
  if (ofTraces.test(path)) return undefined;
  const active = contextApi.active();
  const span = startCall(path, SpanKind.CLIENT, active);
  propagation.inject(trace.setSpan(active, span), metadata, setter);
  const load = lane.begin();
  const attendance = attendLoop();
  const traceparent = metadata.get(traceparentKey);
  if (typeof traceparent === 'string') load.awaitStream(traceparent);
  nameSandbox(span, request);
  let tellReported: (() => void) | undefined;
  return {
    came(message) {
      load.answered();
      nameSandbox(span, message);
    },
    failed: (error) => setFailed(span, error, 'client'),
    reported(by, header) {
      const timing = header.get('server-timing');
      if (typeof timing !== 'string') return;
      // A stream's header comes long before its end, in whose way this must not be.
      const [endMs, limitMs] = [nowMs(), performance.now() - load.startMs];
      tellReported = () => addReportedSteps(span, by, timing, { endMs, limitMs });
    },
    end() {
      load.end();
      const [endMs, delayMs] = [nowMs(), loopDelayMs(attendance)];
      behindAnswer(() => {
        tellReported?.();
        lane.figures.record(load, span.spanContext());
        if (span.isRecording()) span.setAttributes(loadAttributes(lane, load, delayMs));
        endSpan(span, endMs);
      });
    },
  };
}

// The callee's side of a call, whose handler works within it.
export interface ServerSpan {
  within<R>(step: () => R): R;
  came(message: unknown): void;
  failed(error: unknown): void;
  end(): void;
}

export function serverSpan(path: string, metadata: Metadata, request: unknown): ServerSpan | undefined {
  if (untold.test(path) || ofTraces.test(path)) return undefined;
  const parent = propagation.extract(ROOT_CONTEXT, metadata, getter);
  const span = startCall(path, SpanKind.SERVER, parent);
  const context = trace.setSpan(parent, span);
  const attendance = attendLoop();
  nameSandbox(span, request);
  return {
    within: (step) => contextApi.with(context, step),
    came: (message) => nameSandbox(span, message),
    failed: (error) => setFailed(span, error, 'server'),
    end() {
      const [endMs, delayMs] = [nowMs(), loopDelayMs(attendance)];
      behindAnswer(() => {
        if (span.isRecording()) span.setAttribute('wrenn.event_loop.delay_ms', delayMs);
        endSpan(span, endMs);
      });
    },
  };
}

function startCall(path: string, kind: SpanKind, parent: Context): Span {
  const method = path.slice(1);
  return startSpan(method, { kind, attributes: { 'rpc.system.name': 'grpc', 'rpc.method': method } }, parent);
}

function loadAttributes(lane: LaneLoad, load: LaneCall, loopDelay: number): Attributes {
  const { queuedMs, firstMessageMs } = load;
  return {
    'wrenn.lane': lane.name,
    'wrenn.lane.in_flight': load.inFlight,
    'wrenn.lane.unsent_bytes': load.unsentBytes,
    'wrenn.lane.window_used_bytes': load.windowUsedBytes,
    ...(queuedMs !== undefined && { 'wrenn.rpc.queued_ms': rounded(queuedMs) }),
    ...(firstMessageMs !== undefined && { 'wrenn.rpc.first_message_ms': rounded(firstMessageMs) }),
    'wrenn.event_loop.delay_ms': loopDelay,
  };
}

// Ids of our own making only: whatever else a request or an answer holds stays out of traces.
function nameSandbox(span: Span, message: unknown): void {
  if (!span.isRecording() || typeof message !== 'object' || message === null) return;
  const { sandboxId, sandbox, owner } = message as { sandboxId?: unknown; sandbox?: { id?: unknown }; owner?: unknown };
  const id = sandboxId ?? sandbox?.id ?? owner;
  if (typeof id === 'string' && isSandboxId(id)) span.setAttribute('wrenn.sandbox.id', id);
}

// By gRPC's conventions every status but OK is an error to a client, and to a server only a fault of its own.
function setFailed(span: Span, error: unknown, side: 'client' | 'server'): void {
  const code = statusOf(error);
  span.setAttributes({ 'rpc.response.status_code': Status[code], 'error.type': typeOf(error) });
  if (side === 'client' || faults.has(code)) span.setStatus({ code: SpanStatusCode.ERROR, message: Status[code] });
  describeFailure(span, error);
}

function statusOf(error: unknown): Status {
  if (error instanceof WrennError) return codeOf[error.reason];
  if (error instanceof ServerError || error instanceof ClientError) return error.code;
  return isAbortError(error) ? Status.CANCELLED : Status.INTERNAL;
}

function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
