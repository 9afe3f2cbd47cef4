// Deadlines travel with the call: each hop learns what its caller has left and never grants more.
import type { Deadline, Metadata as GrpcMetadata } from '@grpc/grpc-js';
import type { CallContext, Metadata } from 'nice-grpc-common';

// What a handler knows of its caller's patience.
export interface CallDeadline {
  readonly signal: AbortSignal; // Aborts when the caller leaves or the deadline passes.
  readonly deadlineAtMs: number; // Date.now() clock; Infinity for a stream without a deadline.
  readonly isOwnLimit?: boolean; // As of an outbound call.
}

// Options of an outbound call. A unary call must have a deadline; a stream may live as long as its signal.
export interface OutboundCall {
  readonly signal?: AbortSignal;
  readonly deadlineAtMs?: number;
  // The one who asked has more time than that: a callee that does not answer by then is SERVICE_UNAVAILABLE, since to
  // allow more time, as DEADLINE_EXCEEDED has it, would not help.
  readonly isOwnLimit?: boolean;
  // How long it may wait, not yet sent, for a callee that is away. Unset: for one more attempt to connect.
  readonly awaitPeerMs?: number;
}

// What a call may take from its caller to here, on a busy machine.
const onTheWayMs = 500;
// From a crash to SERVING.
const restartLimitMs = 5000;
const deadlineKey = 'wrenn-deadline-at-ms';
const maxGrpcTimeoutMs = 99_999_999;

// nice-grpc does not show a call's deadline to handlers and grpc-js strips its header, so it is handed on as metadata,
// replacing whatever a client may have sent under that name.
export function handOnDeadline(metadata: GrpcMetadata, deadline: Deadline): void {
  metadata.remove(deadlineKey);
  const atMs = deadline instanceof Date ? deadline.getTime() : deadline;
  if (Number.isFinite(atMs)) metadata.set(deadlineKey, String(atMs));
}

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
export function isOutOfTime({ deadlineAtMs }: Pick<CallDeadline, 'deadlineAtMs'>): boolean {
  return Date.now() >= deadlineAtMs - onTheWayMs;
}

const abortsAtMs = new WeakMap<AbortSignal, number>();

// Whether a signal aborts by then in any case, so that nobody else needs to watch the clock for it.
export function abortsBy(signal: AbortSignal | undefined, deadlineAtMs: number): boolean {
  return signal !== undefined && (abortsAtMs.get(signal) ?? Infinity) <= deadlineAtMs;
}

// How long a call is waited for. Its signal aborts when the one who asked leaves or the deadline passes.
export class Patience {
  readonly #controller = new AbortController();
  readonly #caller: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  #isOver = false;

  constructor(deadlineAtMs: number, caller: AbortSignal | undefined) {
    this.#caller = caller;
    const expire = () => {
      this.#isOver = true;
      this.#leave();
    };
    this.#timer = setTimeout(expire, Math.max(0, deadlineAtMs - Date.now()));
    abortsAtMs.set(this.signal, deadlineAtMs);
    if (caller?.aborted) this.#leave();
    else caller?.addEventListener('abort', this.#leave, { once: true });
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  // The deadline has passed, and the call was not over.
  get isOver(): boolean {
    return this.#isOver;
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#caller?.removeEventListener('abort', this.#leave);
  }

  readonly #leave = () => this.#controller.abort();
}

// An outbound call on behalf of an inbound one: at most `capMs` from now and never past the caller.
export function within(caller: CallDeadline, capMs: number): CallDeadline {
  const { signal, deadlineAtMs, isOwnLimit = false } = caller;
  const capAtMs = Date.now() + capMs;
  return capAtMs < deadlineAtMs
    ? { signal, deadlineAtMs: capAtMs, isOwnLimit: true }
    : { signal, deadlineAtMs, isOwnLimit };
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
