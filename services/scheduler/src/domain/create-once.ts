// Creates that carry an id of their caller's. The work belongs to the id and not to the call: it goes on
// when its caller leaves, and whoever calls again joins it, so that a lost answer costs no second sandbox.
// Only while nothing is placed yet, and nobody waits any more, is it given up.
import type { CallDeadline } from '@wrenn/kit/deadlines';

import { type CreateKey, requestIdReused } from './create-key.ts';
import type { CreateSpec } from './create-request.ts';
import type { CreateSandbox, CreatedSandbox } from './create-sandbox.ts';
import { whileCalled } from './while-called.ts';

interface Work {
  readonly digest: string;
  readonly abandon: AbortController;
  readonly result: Promise<CreatedSandbox>;
  callerCount: number;
  isPlaced: boolean;
}

export class CreateOnce {
  readonly #create: CreateSandbox;
  readonly #works = new Map<string, Work>();
  #isClosed = false;

  constructor(create: CreateSandbox) {
    this.#create = create;
  }

  async run(spec: CreateSpec, key: CreateKey, queueTimeoutMs: number, caller: CallDeadline): Promise<CreatedSandbox> {
    const name = `${key.project}/${key.requestId}`;
    const running = this.#works.get(name);
    if (running && running.digest !== key.digest) throw requestIdReused(key);
    const work = running ?? this.#begin(name, spec, key, queueTimeoutMs);
    work.callerCount += 1;
    try {
      return await whileCalled(work.result, caller.signal, 'the caller left; the create goes on under its request_id');
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

  #begin(name: string, spec: CreateSpec, key: CreateKey, queueTimeoutMs: number): Work {
    const abandon = new AbortController();
    if (this.#isClosed) abandon.abort();
    const forget = () => {
      if (this.#works.get(name) === work) this.#works.delete(name);
    };
    const work: Work = {
      digest: key.digest,
      abandon,
      callerCount: 0,
      isPlaced: false,
      result: this.#create.run(
        spec,
        { key, queueTimeoutMs, onPlaced: () => void (work.isPlaced = true) },
        { signal: abandon.signal, deadlineAtMs: Infinity },
      ),
    };
    this.#works.set(name, work);
    // Whoever comes after it was given up begins anew and waits for no lost cause.
    abandon.signal.addEventListener('abort', forget, { once: true });
    work.result.then(forget, forget);
    return work;
  }
}
