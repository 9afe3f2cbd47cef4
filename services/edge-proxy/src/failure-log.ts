// What fails at the edge, told with its sandbox. Whoever makes requests fail decides how many do, so the log is told of
// each kind of failure of a sandbox once in a while, with how many there were, and of so many in all.
import type { Log } from '@wrenn/kit/log';

import type { RefusalCode } from './domain/refusal.ts';

export type FailureCode = RefusalCode | 'CLIENT_LEFT';

export interface Failure {
  readonly code: FailureCode;
  readonly client: string; // Its address.
  readonly sandbox?: string; // Unless the request names none.
  readonly port?: number;
  readonly error?: unknown;
}

export interface FailureLogOptions {
  readonly log: Log;
  readonly windowMs?: number;
  readonly linesPerWindow?: number;
}

// Of guests, or of ours; the others are what clients may do.
const guestFailures: ReadonlySet<FailureCode> = new Set([
  'NOTHING_LISTENS',
  'GUEST_CLOSED',
  'GUEST_MISBEHAVED',
  'GUEST_TIMEOUT',
  'SANDBOX_NOT_RESUMED',
  'SERVICE_UNAVAILABLE',
]);
// No failures: the way that a browser is sent, and a probe for a route.
const untold: ReadonlySet<FailureCode> = new Set(['TOKEN_TAKEN', 'ROUTE_NOT_FOUND']);

export class FailureLog {
  readonly #log: Log;
  readonly #linesPerWindow: number;
  readonly #sweep: NodeJS.Timeout;
  readonly #told = new Map<string, { readonly first: Failure; more: number }>(); // In this window.
  #leftOut = 0; // For which there was no line.

  constructor({ log, windowMs = 10_000, linesPerWindow = 50 }: FailureLogOptions) {
    this.#log = log;
    this.#linesPerWindow = linesPerWindow;
    this.#sweep = setInterval(() => this.#endWindow(), windowMs);
    this.#sweep.unref();
  }

  add(failure: Failure): void {
    if (untold.has(failure.code)) return;
    const key = `${failure.code} ${failure.sandbox ?? ''}`;
    const known = this.#told.get(key);
    if (known) known.more++;
    else if (this.#told.size >= this.#linesPerWindow) this.#leftOut++;
    else {
      this.#told.set(key, { first: failure, more: 0 });
      this.#tell(failure, 'exchange failed');
    }
  }

  close(): void {
    clearInterval(this.#sweep);
    this.#endWindow();
  }

  #endWindow(): void {
    for (const { first, more } of this.#told.values()) {
      if (more > 0) this.#tell({ code: first.code, ...ofSandbox(first) }, `and ${more} more`);
    }
    this.#told.clear();
    if (this.#leftOut > 0) this.#log.warn({ count: this.#leftOut }, 'exchanges failed of which nothing else is told');
    this.#leftOut = 0;
  }

  #tell({ error, ...facts }: Partial<Failure> & { code: FailureCode }, text: string): void {
    const level = facts.code === 'INTERNAL' ? 'error' : guestFailures.has(facts.code) ? 'warn' : 'info';
    this.#log[level]({ ...facts, ...(error !== undefined && { err: error }) }, text);
  }
}

const ofSandbox = ({ sandbox }: Failure) => (sandbox === undefined ? {} : { sandbox });
