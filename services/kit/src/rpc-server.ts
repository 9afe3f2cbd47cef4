// A gRPC server with what every service owes its callers: typed errors, deadlines, limits, health,
// reflection, spans, and an end that lets running calls finish.
import { chmodSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname } from 'node:path';

import type { ChannelOptions } from '@grpc/grpc-js';
import type { DescMethod } from '@bufbuild/protobuf';
import type { GenService, GenServiceMethods } from '@bufbuild/protobuf/codegenv2';
import { isAbortError } from 'abort-controller-x';
import {
  type CallContext,
  type Metadata,
  ServerError,
  type ServerMiddleware,
  type ServiceImplementation,
  createServer,
} from 'nice-grpc';

import { type CallDeadline, Patience, callerDeadlineMs } from './deadlines.ts';
import { WrennError } from './errors.ts';
import { Health } from './health.ts';
import { newErrorId } from './ids.ts';
import type { Log } from './log.ts';
import { reflectionServices } from './reflection.ts';
import { type PassingDefinition, type RpcDefinition, passingDefinition, rpcDefinition } from './rpc-adapter.ts';
import { sendable, toServerError } from './rpc-errors.ts';
import { inboundInterceptor } from './rpc-inbound.ts';
import { WatchedSteps } from './rpc-steps.ts';
import { serverSpan } from './telemetry/rpc.ts';
import { widenWindows } from './wide-windows.ts';

export type Call = CallContext & CallDeadline;
export type RpcHandlers<S extends GenServiceMethods> = ServiceImplementation<RpcDefinition<S>, CallDeadline>;
export type PassingHandlers<S extends GenServiceMethods> = ServiceImplementation<PassingDefinition<S>, CallDeadline>;

export interface RpcServerOptions {
  readonly log: Log;
  // Granted to a unary call that brings no deadline.
  readonly defaultDeadlineMs?: number;
  // Exceptions to it, by `Service/Method` without the package. A function gets the request.
  readonly deadlinesMs?: Readonly<Record<string, number | ((request: never) => number)>>;
  // Methods whose callers send bytes in number; one connection's then stand up to 8 MiB ahead of their readers.
  readonly bulkMethods?: readonly DescMethod[];
  // How long stop() lets running calls finish before it cuts them.
  readonly drainMs?: number;
}

const MiB = 1024 * 1024;
const serverOptions: ChannelOptions = {
  'grpc.max_receive_message_length': 4 * MiB,
  'grpc.max_send_message_length': 4 * MiB,
  'grpc.max_concurrent_streams': 1000,
  'grpc.keepalive_time_ms': 60_000,
};

export class RpcServer {
  readonly #health = new Health();
  readonly #options: RpcServerOptions;
  readonly #services: GenService<GenServiceMethods>[] = [];
  readonly #server;

  constructor(options: RpcServerOptions) {
    this.#options = options;
    widenWindows((options.bulkMethods ?? []).map(({ parent, name }) => `/${parent.typeName}/${name}`));
    const withInterceptor = { ...serverOptions, interceptors: [inboundInterceptor] } as ChannelOptions;
    this.#server = createServer(withInterceptor).use(served(options));
  }

  add<S extends GenServiceMethods>(service: GenService<S>, handlers: RpcHandlers<S>): void {
    this.#server.add(rpcDefinition(service), handlers as never);
    this.#tell(service);
  }

  // For handlers that pass their requests on to a Lanes.passingClient and return the bytes of its answers.
  pass<S extends GenServiceMethods>(service: GenService<S>, handlers: PassingHandlers<S>): void {
    this.#server.add(passingDefinition(service), handlers as never);
    this.#tell(service);
  }

  // Binds `host:port` or `unix:/path` and returns the port (0 for a unix socket). A unix socket is for
  // our own user alone; its directory is made where it is missing.
  async listen(address: string): Promise<number> {
    this.add(this.#health.service, this.#health.handlers());
    for (const { service, handlers } of reflectionServices(this.#services)) {
      this.#server.add(rpcDefinition(service), handlers as never);
    }
    const path = address.startsWith('unix:') ? address.slice('unix:'.length) : undefined;
    if (path) {
      mkdirSync(dirname(path), { recursive: true });
      await removeStaleSocket(path);
    }
    const port = await this.#server.listen(address);
    if (path) chmodSync(path, 0o600);
    this.#options.log.info({ address, port }, 'listening');
    return port;
  }

  get isServing(): boolean {
    return this.#health.isServing;
  }

  ready(): void {
    this.#health.setAll('SERVING');
    this.#options.log.info('serving');
  }

  async close(): Promise<void> {
    this.#health.setAll('NOT_SERVING');
    this.#health.endWatches();
    const cut = setTimeout(() => this.#server.forceShutdown(), this.#options.drainMs ?? 5000);
    try {
      await this.#server.shutdown();
    } finally {
      clearTimeout(cut);
    }
  }

  #tell<S extends GenServiceMethods>(service: GenService<S>): void {
    this.#services.push(service);
    this.#health.set(service.typeName, 'NOT_SERVING');
  }
}

// A socket file outlives a server that was killed. One that still answers belongs to a running server,
// and taking its name away would leave two of a kind behind.
async function removeStaleSocket(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const isServed = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
  if (isServed) throw new Error(`${path} is served by another process`);
  rmSync(path);
}

// Every call in a span of its own and with a deadline, that aborts its signal when it passes: grpc-js answers the
// caller by itself but aborts only once the status is written, which a reader that has stopped reading can put off
// for ever. Work that outlived it is DEADLINE_EXCEEDED; whatever else went wrong, a status a client can act on.
function served(options: RpcServerOptions): ServerMiddleware<CallDeadline> {
  return (call, inner) => {
    const { path } = call.method;
    const span = serverSpan(path, inner.metadata, call.request);
    let patience: Patience | undefined;
    const open = () => {
      let deadlineAtMs = callerDeadlineMs(inner);
      if (deadlineAtMs === Infinity && !call.requestStream && !call.responseStream) {
        deadlineAtMs = Date.now() + grantedMs(options, path, call.request);
      }
      if (deadlineAtMs !== Infinity) patience = new Patience(deadlineAtMs, inner.signal);
      const { signal } = patience ?? inner;
      return call.next(call.request, { ...inner, sendHeader: sendableHeader(inner), signal, deadlineAtMs });
    };
    return new WatchedSteps(open, {
      ...(span && { within: span.within }),
      came: (message) => span?.came(message),
      failed(error) {
        const failure = patience?.isOver
          ? new WrennError('DEADLINE_EXCEEDED', 'the deadline of this call passed', { cause: error })
          : error;
        span?.failed(failure);
        return answerOf(failure, options.log, path, inner.trailer);
      },
      ended() {
        patience?.end();
        span?.end();
      },
    });
  };
}

function answerOf(error: unknown, log: Log, method: string, trailer: Metadata): ServerError {
  if (error instanceof ServerError) return new ServerError(error.code, sendable(error.details));
  const refusal = refusalIn(error);
  if (refusal) {
    log[refusal === error ? 'debug' : 'warn']({ err: error, method }, 'call refused');
    return toServerError(refusal, trailer);
  }
  if (isAbortError(error)) return toServerError(new WrennError('CANCELLED', 'the call was cancelled'), trailer);
  const id = newErrorId();
  log.error({ err: error, method, errorId: id }, 'call failed');
  return toServerError(new WrennError('INTERNAL', `internal error ${id}`, { meta: { id } }), trailer);
}

// Of several failures at once, all with reasons, the first; one without makes the whole a fault of ours.
function refusalIn(error: unknown): WrennError | undefined {
  if (error instanceof WrennError) return error;
  if (isForWantOfDescriptors(error)) {
    return new WrennError('SERVICE_UNAVAILABLE', 'the service has no descriptor left for this', { cause: error });
  }
  if (!(error instanceof AggregateError)) return undefined;
  const refusals = error.errors.map(refusalIn);
  return refusals.includes(undefined) ? undefined : refusals[0];
}

// No fault in what was done: as soon as others end, there are some again.
function isForWantOfDescriptors(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  return code === 'EMFILE' || code === 'ENFILE' || isForWantOfDescriptors(error.cause);
}

// nice-grpc sends no header that is empty, so a handler that sends it early, to say that a stream has
// begun, would say nothing.
function sendableHeader(context: CallContext): () => void {
  return () => {
    context.header.set('wrenn-begun', '1');
    context.sendHeader();
  };
}

// What a call without a deadline gets: by `Service/Method`, else the default.
function grantedMs(options: RpcServerOptions, path: string, request: unknown): number {
  const exception = options.deadlinesMs?.[path.slice(path.lastIndexOf('.') + 1)];
  if (typeof exception === 'function') return exception(request as never);
  return exception ?? options.defaultDeadlineMs ?? 30_000;
}
