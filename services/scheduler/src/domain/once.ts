// Work that carries an id of its caller's. It belongs to the id and not to the call: it goes on when its
// caller leaves, and whoever calls again joins it, so that a lost answer costs no second sandbox. Only while
// nothing is placed yet, and nobody waits any more, is it given up.
import type { CallDeadline } from '@wrenn/kit/deadlines';

import { type CreateKey, requestIdReused } from './create-key.ts';
import { whileCalled } from './while-called.ts';

interface Work {
  readonly digest: string;
  readonly abandon: AbortController;
  readonly result: Promise<unknown>;
  callerCount: number;
  isPlaced: boolean;
}

export interface OnceTerms {
  readonly caller: CallDeadline;
  // Called once there is a record of it.
  readonly onPlaced: () => void;
}

export class Once {
  readonly #works = new Map<string, Work>();
  #isClosed = false;

  // What has the same key does the same, so its result is of the same type.
  async run<T>(key: CreateKey, caller: CallDeadline, begin: (terms: OnceTerms) => Promise<T>): Promise<T> {
    const name = `${key.project}/${key.requestId}`;
    const running = this.#works.get(name);
    if (running && running.digest !== key.digest) throw requestIdReused(key);
    const work = running ?? this.#begin(name, key.digest, begin);
    work.callerCount += 1;
    try {
      const farewell = 'the caller left; the work goes on under its request_id';
      return (await whileCalled(work.result, caller.signal, farewell)) as T;
    } finally {
      work.callerCount -= 1;
      if (work.callerCount === 0 && !work.isPlaced) work.abandon.abort();
    }
  }

  // Undoes what is in progress, and returns once it is undone.
  async close(): Promise<void> {
    this.#isClosed = true;
    const works = [...this.#works.values()];
    for (const { abandon } of works) abandon.abort();
    await Promise.allSettled(works.map(({ result }) => result));
  }

  #begin(name: string, digest: string, begin: (terms: OnceTerms) => Promise<unknown>): Work {
    const abandon = new AbortController();
    if (this.#isClosed) abandon.abort();
    const forget = () => {
      if (this.#works.get(name) === work) this.#works.delete(name);
    };
    const work: Work = {
      digest,
      abandon,
      callerCount: 0,
      isPlaced: false,
      result: begin({
        caller: { signal: abandon.signal, deadlineAtMs: Infinity },
        onPlaced: () => void (work.isPlaced = true),
      }),
    };
    this.#works.set(name, work);
    // Whoever comes after it was given up begins anew and waits for no lost cause.
    abandon.signal.addEventListener('abort', forget, { once: true });
    work.result.then(forget, forget);
    return work;
  }
}
