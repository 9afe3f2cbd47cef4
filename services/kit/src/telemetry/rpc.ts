// One span per call and trace context in its metadata, both ways. Streams get one span too, with no
// event per message: hot streams stay cheap (docs/decisions/0006-own-rpc-spans.md).
import {
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
  ClientError,
  type ClientMiddleware,
  Metadata,
  ServerError,
  type ServerMiddleware,
  Status,
} from 'nice-grpc-common';

import { WrennError, codeOf } from '../errors.ts';

const tracer = trace.getTracer('wrenn');
const setter: TextMapSetter<Metadata> = { set: (carrier, key, value) => void carrier.set(key, value) };
const getter: TextMapGetter<Metadata> = {
  keys: (carrier) => [...carrier].map(([key]) => key),
  get: (carrier, key) => {
    const value = carrier.get(key);
    return typeof value === 'string' ? value : undefined;
  },
};

export function tracedClient(lane: string): ClientMiddleware {
  return (call, options) => {
    const span = startSpan(call.method.path, SpanKind.CLIENT, contextApi.active());
    span.setAttribute('wrenn.lane', lane);
    const active = trace.setSpan(contextApi.active(), span);
    const metadata = Metadata(options.metadata);
    propagation.inject(active, metadata, setter);
    return bound(active, ended(span, call.next(call.request, { ...options, metadata })));
  };
}

export const tracedServer: ServerMiddleware = (call, context) => {
  const parent = propagation.extract(ROOT_CONTEXT, context.metadata, getter);
  const span = startSpan(call.method.path, SpanKind.SERVER, parent);
  const active = trace.setSpan(parent, span);
  return bound(active, ended(span, call.next(call.request, context)));
};

function startSpan(path: string, kind: SpanKind, parent: Context): Span {
  const name = path.slice(1);
  const [service = '', method = ''] = name.split('/');
  const attributes = { 'rpc.system': 'grpc', 'rpc.service': service, 'rpc.method': method };
  return tracer.startSpan(name, { kind, attributes }, parent);
}

// What nice-grpc runs a call as: messages are yielded by streams and returned by unary calls.
type RpcSteps<T> = AsyncGenerator<never, T, undefined> | AsyncGenerator<T, void, undefined>;

async function* ended<T>(span: Span, inner: RpcSteps<T>): AsyncGenerator<T, T | void, undefined> {
  try {
    return yield* inner;
  } catch (error) {
    const code = statusOf(error);
    span.setAttribute('rpc.grpc.status_code', code);
    if (error instanceof WrennError) span.setAttribute('error.type', error.reason);
    span.setStatus({ code: SpanStatusCode.ERROR, message: Status[code] });
    throw error;
  } finally {
    span.end();
  }
}

function statusOf(error: unknown): Status {
  if (error instanceof WrennError) return codeOf[error.reason];
  if (error instanceof ServerError || error instanceof ClientError) return error.code;
  return isAbortError(error) ? Status.CANCELLED : Status.INTERNAL;
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
