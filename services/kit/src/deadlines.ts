// Deadlines travel with the call: each hop learns what its caller has left and never grants more.
import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js';
import type { CallContext, Metadata } from 'nice-grpc-common';

// What a handler knows of its caller's patience.
export interface CallDeadline {
  readonly signal: AbortSignal; // Aborts when the caller leaves or the deadline passes.
  readonly deadlineAtMs: number; // Date.now() clock; Infinity for a stream without a deadline.
}

// Options of an outbound call. A unary call must have a deadline; a stream may live as long as its signal.
export interface OutboundCall {
  readonly signal?: AbortSignal;
  readonly deadlineAtMs?: number;
  // How long it may wait, not yet sent, for a callee that is away. Unset: for one more attempt to connect.
  readonly awaitPeerMs?: number;
}

// What a call may take from its caller to here, on a busy machine.
const onTheWayMs = 500;
// From a crash to SERVING.
const restartLimitMs = 5000;
const deadlineKey = 'wrenn-deadline-at-ms';
const maxGrpcTimeoutMs = 99_999_999;

// nice-grpc does not show a call's deadline to handlers and grpc-js strips its header, so this
// interceptor hands it on as metadata, replacing whatever a client may have sent under that name.
export const deadlineInterceptor: ServerInterceptor = (_method, call) =>
  new ServerInterceptingCall(call, {
    start(next) {
      next({
        onReceiveMetadata(metadata, mdNext) {
          metadata.remove(deadlineKey);
          const deadline = call.getDeadline();
          const atMs = deadline instanceof Date ? deadline.getTime() : deadline;
          if (Number.isFinite(atMs)) metadata.set(deadlineKey, String(atMs));
          mdNext(metadata);
        },
      });
    },
  });

export function callerDeadlineMs(context: CallContext): number {
  const text = context.metadata.get(deadlineKey);
  return text === undefined ? Infinity : Number(text);
}

export function setGrpcTimeout(metadata: Metadata, remainingMs: number): void {
  const ms = Math.min(Math.max(1, Math.ceil(remainingMs)), maxGrpcTimeoutMs);
  metadata.set('grpc-timeout', `${ms}m`);
}

// Whether a caller that has left did so for want of time. A timeout is relative on the wire: the caller's own runs out
// before ours, by what the call took to come here, and nothing in the end of a call says why it ends.
export function isOutOfTime({ deadlineAtMs }: CallDeadline): boolean {
  return Date.now() >= deadlineAtMs - onTheWayMs;
}

// An outbound call on behalf of an inbound one: at most `capMs` from now and never past the caller.
export function within(caller: CallDeadline, capMs: number): CallDeadline {
  return { signal: caller.signal, deadlineAtMs: Math.min(caller.deadlineAtMs, Date.now() + capMs) };
}

// An outbound call of the service's own, on behalf of nobody.
export function inMs(capMs: number, signal?: AbortSignal): OutboundCall {
  return { deadlineAtMs: Date.now() + capMs, ...(signal && { signal }) };
}

// A call that outlasts the restart of its callee. Half of the time is kept for the answer, or to tell that none comes.
export function acrossRestart(call: OutboundCall): OutboundCall {
  const leftMs = (call.deadlineAtMs ?? Infinity) - Date.now();
  return { ...call, awaitPeerMs: Math.max(0, Math.min(restartLimitMs, leftMs / 2)) };
}
