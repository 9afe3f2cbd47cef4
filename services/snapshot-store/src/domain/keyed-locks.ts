// Work under one key: shared holders run together, an exclusive one runs alone. First come, first
// served, so that a stream of shared holders cannot keep an exclusive one waiting for ever.
import { inSpan } from '@wrenn/kit/telemetry/span';

interface Waiter {
  readonly isExclusive: boolean;
  readonly start: () => void;
}

interface Lock {
  holders: number;
  isExclusive: boolean;
  readonly queue: Waiter[];
}

export class KeyedLocks {
  readonly #locks = new Map<string, Lock>();

  shared<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#hold(key, false, work);
  }

  exclusive<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.#hold(key, true, work);
  }

  // Keys somebody holds or waits for.
  get size(): number {
    return this.#locks.size;
  }

  async #hold<T>(key: string, isExclusive: boolean, work: () => Promise<T>): Promise<T> {
    const lock = this.#locks.get(key) ?? { holders: 0, isExclusive, queue: [] };
    this.#locks.set(key, lock);
    const { promise: admitted, resolve: start } = Promise.withResolvers<void>();
    lock.queue.push({ isExclusive, start });
    admit(lock);
    const isWaiting = lock.queue.some((waiter) => waiter.start === start);
    await (isWaiting ? inSpan('lock', {}, () => admitted) : admitted);
    try {
      return await work();
    } finally {
      lock.holders -= 1;
      admit(lock);
      if (lock.holders === 0) this.#locks.delete(key);
    }
  }
}

function admit(lock: Lock): void {
  for (let next = lock.queue[0]; next; next = lock.queue[0]) {
    if (lock.holders > 0 && (lock.isExclusive || next.isExclusive)) return;
    lock.queue.shift();
    lock.holders += 1;
    lock.isExclusive = next.isExclusive;
    next.start();
  }
}
