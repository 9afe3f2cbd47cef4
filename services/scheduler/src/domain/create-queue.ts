// Creates that wait for room, first come, first served. Whoever comes while others wait is behind them,
// so that small ones do not for ever take what a large one waits for. One that waits for its project's
// quota stands in the way of its own project only.
import type { CallDeadline } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';

import type { Bell } from './ports.ts';

export interface Turn {
  readonly project: string;
  // 0: it does not wait.
  readonly queueTimeoutMs: number;
  readonly caller: CallDeadline;
}

interface Waiter {
  readonly project: string;
  // What it was refused for the last time; undefined once it waits no more.
  attempt(): Promise<WrennError | undefined>;
  giveUp(why: WrennError): void;
}

const maxWaiters = 1000;

export class CreateQueue {
  readonly #bell: Bell;
  readonly #waiters = new Set<Waiter>();
  #nudge = new AbortController();
  #isServing = false;
  #isClosed = false;

  constructor(bell: Bell) {
    this.#bell = bell;
  }

  get length(): number {
    return this.#waiters.size;
  }

  // Runs `place` once it is its turn and there is room.
  async run<T>(turn: Turn, place: () => Promise<T>): Promise<T> {
    let refusal = this.#behindOthers();
    if (!refusal) {
      try {
        return await place();
      } catch (error) {
        if (!mayWait(error)) throw error;
        refusal = error;
      }
    }
    if (turn.queueTimeoutMs === 0 || refusal.meta['too_large'] !== undefined) throw refusal;
    if (this.#isClosed) throw isStopping();
    if (this.#waiters.size >= maxWaiters) {
      throw new WrennError('NO_HOST_LEFT', `${maxWaiters} creates wait for room already`, { cause: refusal });
    }
    return this.#wait(turn, place, refusal);
  }

  // Says that there may be room that no ring of the bell told of.
  look(): void {
    this.#nudge.abort();
  }

  // Sends everybody away.
  close(): void {
    this.#isClosed = true;
    for (const waiter of this.#waiters) waiter.giveUp(isStopping());
  }

  // Whoever would wait in front of hosts is in front of everybody.
  #behindOthers(): WrennError | undefined {
    if (this.#waiters.size === 0) return undefined;
    const message = `${this.#waiters.size} creates wait for room before it`;
    return new WrennError('NO_HOST_LEFT', message, { meta: { waiting: String(this.#waiters.size) } });
  }

  async #wait<T>({ project, queueTimeoutMs, caller }: Turn, place: () => Promise<T>, first: WrennError): Promise<T> {
    const sinceMs = performance.now();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let refusal = first;
    let gaveUp: WrennError | undefined;
    let isTrying = false;
    const waiter: Waiter = {
      project,
      attempt: async () => {
        isTrying = true;
        try {
          resolve(await place());
        } catch (error) {
          if (!mayWait(error) && !hasReason(error, 'DATABASE_UNAVAILABLE')) reject(error);
          else if (gaveUp) reject(gaveUp);
          else {
            if (mayWait(error)) refusal = error;
            return error;
          }
        } finally {
          isTrying = false;
        }
        this.#waiters.delete(waiter);
        return undefined;
      },
      // What is being tried right now may still succeed: then it has been placed, whoever waits for it.
      giveUp: (why) => {
        gaveUp = why;
        if (isTrying) return;
        this.#waiters.delete(waiter);
        reject(why);
        this.look();
      },
    };
    const leave = () => waiter.giveUp(new WrennError('CANCELLED', 'the caller left while the create waited for room'));
    const limitMs = Math.min(queueTimeoutMs, caller.deadlineAtMs - Date.now());
    const timer = setTimeout(
      () => waiter.giveUp(stillFull(refusal, performance.now() - sinceMs)),
      Math.max(0, limitMs),
    );
    caller.signal.addEventListener('abort', leave, { once: true });
    if (caller.signal.aborted) leave();
    else {
      this.#waiters.add(waiter);
      this.look();
      void this.#serve(); // Never rejects: what fails is the waiters'.
    }
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      caller.signal.removeEventListener('abort', leave);
    }
  }

  async #serve(): Promise<void> {
    if (this.#isServing) return;
    this.#isServing = true;
    const subscription = this.#bell.subscribe('room');
    try {
      while (this.#waiters.size > 0) {
        this.#nudge = new AbortController();
        await this.#pass();
        if (this.#waiters.size > 0) await subscription.rung(this.#nudge.signal);
      }
    } finally {
      subscription.close();
      this.#isServing = false;
    }
  }

  // Tries them in order, until one finds no host.
  async #pass(): Promise<void> {
    const full = new Set<string>();
    for (const waiter of this.#waiters) {
      if (full.has(waiter.project)) continue;
      const refusal = await waiter.attempt();
      if (refusal && refusal.reason !== 'QUOTA_EXCEEDED') return;
      if (refusal) full.add(waiter.project);
    }
  }
}

function isStopping(): WrennError {
  return new WrennError('SERVICE_UNAVAILABLE', 'the scheduler is stopping');
}

function mayWait(error: unknown): error is WrennError {
  return hasReason(error, 'NO_HOST_LEFT', 'QUOTA_EXCEEDED');
}

function stillFull(refusal: WrennError, waitedMs: number): WrennError {
  const message = `${refusal.message} (after ${(waitedMs / 1000).toFixed(1)} s in the queue)`;
  return new WrennError(refusal.reason, message, { meta: refusal.meta, cause: refusal });
}
