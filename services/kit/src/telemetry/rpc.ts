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
import {
  type CallOptions,
  ClientError,
  type ClientMiddleware,
  Metadata,
  ServerError,
  type ServerMiddleware,
  Status,
} from 'nice-grpc-common';

import { WrennError, codeOf } from '../errors.ts';
import { isSandboxId } from '../ids.ts';
import { describeFailure, typeOf } from './failures.ts';
import type { LaneCall, LaneLoad } from './lane-load.ts';
import { loopDelayMs } from './process-load.ts';
import { addReportedSteps } from './server-timing.ts';
import { endSpan, startSpan } from './span.ts';

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

// `reporter` is what a callee is called that tells by headers where the time went; one of the mesh makes spans itself.
export function tracedClient(lane: LaneLoad, reporter?: string): ClientMiddleware {
  return (call, options) => {
    if (ofTraces.test(call.method.path)) return call.next(call.request, options);
    const active = contextApi.active();
    const span = startCall(call.method.path, SpanKind.CLIENT, active);
    const inCall = trace.setSpan(active, span);
    const metadata = Metadata(options.metadata);
    propagation.inject(inCall, metadata, setter);
    const load = lane.begin();
    const traceparent = metadata.get(traceparentKey);
    if (typeof traceparent === 'string') load.awaitStream(traceparent);
    const told = reporter === undefined ? options : toldBy(reporter, span, load, options);
    const inner = call.next(call.request, { ...told, metadata });
    return bound(inCall, clientSteps(span, lane, load, call.request, inner));
  };
}

function toldBy(reporter: string, span: Span, load: LaneCall, options: CallOptions): CallOptions {
  return {
    ...options,
    onHeader(header) {
      const timing = header.get('server-timing');
      if (typeof timing === 'string') addReportedSteps(span, reporter, timing, performance.now() - load.startMs);
      options.onHeader?.(header);
    },
  };
}

export const tracedServer: ServerMiddleware = (call, context) => {
  const { path } = call.method;
  if (untold.test(path) || ofTraces.test(path)) return call.next(call.request, context);
  const parent = propagation.extract(ROOT_CONTEXT, context.metadata, getter);
  const span = startCall(path, SpanKind.SERVER, parent);
  return bound(trace.setSpan(parent, span), serverSteps(span, call.request, call.next(call.request, context)));
};

function startCall(path: string, kind: SpanKind, parent: Context): Span {
  const method = path.slice(1);
  return startSpan(method, { kind, attributes: { 'rpc.system.name': 'grpc', 'rpc.method': method } }, parent);
}

// What nice-grpc runs a call as: messages are yielded by streams and returned by unary calls.
type RpcSteps<T> = AsyncGenerator<never, T, undefined> | AsyncGenerator<T, void, undefined>;

async function* clientSteps<T>(
  span: Span,
  lane: LaneLoad,
  load: LaneCall,
  request: unknown,
  inner: RpcSteps<T>,
): AsyncGenerator<T, T | void, undefined> {
  let isOver = false;
  nameSandbox(span, request);
  try {
    for (;;) {
      const step = await inner.next();
      isOver = step.done ?? false;
      load.answered();
      if (step.done) {
        nameSandbox(span, step.value);
        return step.value;
      }
      yield step.value;
    }
  } catch (error) {
    isOver = true;
    setFailed(span, error, 'client');
    throw error;
  } finally {
    if (!isOver) await inner.return(undefined as never);
    load.end(span.spanContext());
    if (span.isRecording()) span.setAttributes(loadAttributes(lane, load));
    endSpan(span);
  }
}

async function* serverSteps<T>(
  span: Span,
  request: unknown,
  inner: RpcSteps<T>,
): AsyncGenerator<T, T | void, undefined> {
  const startMs = performance.now();
  nameSandbox(span, request);
  try {
    const answer = yield* inner;
    nameSandbox(span, answer);
    return answer;
  } catch (error) {
    setFailed(span, error, 'server');
    throw error;
  } finally {
    if (span.isRecording()) span.setAttribute('wrenn.event_loop.delay_ms', loopDelayMs(startMs));
    endSpan(span);
  }
}

function loadAttributes(lane: LaneLoad, load: LaneCall): Attributes {
  const { queuedMs, firstMessageMs } = load;
  return {
    'wrenn.lane': lane.name,
    'wrenn.lane.in_flight': load.inFlight,
    'wrenn.lane.unsent_bytes': load.unsentBytes,
    'wrenn.lane.window_used_bytes': load.windowUsedBytes,
    ...(queuedMs !== undefined && { 'wrenn.rpc.queued_ms': rounded(queuedMs) }),
    ...(firstMessageMs !== undefined && { 'wrenn.rpc.first_message_ms': rounded(firstMessageMs) }),
    'wrenn.event_loop.delay_ms': loopDelayMs(load.startMs),
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

// A generator's body runs inside whoever calls next(), so each step must re-enter the context.
function bound<T>(
  context: Context,
  inner: AsyncGenerator<T, T | void, undefined>,
): AsyncGenerator<T, T | void, undefined> {
  return {
    next: () => contextApi.with(context, () => inner.next()),
    return: (value) => contextApi.with(context, () => inner.return(value)),
    throw: (error) => contextApi.with(context, () => inner.throw(error)),
    [Symbol.asyncIterator]() {
      return this;
    },
    [Symbol.asyncDispose]: () => contextApi.with(context, () => inner[Symbol.asyncDispose]()),
  };
}
