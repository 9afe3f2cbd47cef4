// Calls as a careful client makes them: each with a deadline, and again while a part of the mesh is down.
// Every answer is checked for what all answers owe: in time, and with a reason that clients know.
import { setTimeout as sleep } from 'node:timers/promises';

import { type Reason, WrennError, hasReason } from '@wrenn/kit/errors';

import type { History } from './history.ts';

// What may pass by itself. A host that is silent for 15 s takes no sandboxes until it reports again.
const passing: readonly Reason[] = ['SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE', 'AGENT_UNREACHABLE', 'NO_HOST_LEFT'];
// What no fault may turn an answer into.
const forbidden: readonly Reason[] = ['INTERNAL', 'UNIMPLEMENTED', 'AGENT_MISBEHAVED', 'MESSAGE_TOO_LARGE'];
const graceMs = 1000;

export class Calls {
  readonly #history: History;

  constructor(history: History) {
    this.#history = history;
  }

  // One call, whose outcome is noted if it should not be.
  async once<T>(what: string, limitMs: number, call: (deadlineAtMs: number) => Promise<T>): Promise<T> {
    const startMs = Date.now();
    try {
      return await call(startMs + limitMs);
    } catch (error) {
      if (!(error instanceof WrennError)) this.#history.breach(`${what}: failed without a reason: ${String(error)}`);
      else if (hasReason(error, ...forbidden)) this.#history.breach(`${what}: ${error.reason} ${error.message}`);
      throw error;
    } finally {
      const lateMs = Date.now() - startMs - limitMs - graceMs;
      if (lateMs > 0) this.#history.breach(`${what}: outlived its deadline by ${lateMs + graceMs} ms`);
    }
  }

  // Again and again until it succeeds, fails for good, or time is up.
  async untilDone<T>(
    what: string,
    limitMs: number,
    call: (deadlineAtMs: number) => Promise<T>,
    alsoPassing: readonly Reason[] = [],
  ): Promise<T> {
    const endMs = Date.now() + limitMs;
    for (;;) {
      try {
        return await this.once(what, Math.max(1000, endMs - Date.now()), call);
      } catch (error) {
        if (!hasReason(error, ...passing, ...alsoPassing) || Date.now() > endMs) throw error;
        await sleep(250);
      }
    }
  }
}
