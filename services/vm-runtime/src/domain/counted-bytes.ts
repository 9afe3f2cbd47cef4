// Knows how many transfers of a guest's files are under way, and waits for them.
import { setTimeout as sleep } from 'node:timers/promises';

import type { ByteRange, FileEntry, FilePlace, GuestBytes, ReadPart } from './guest-files.ts';

export class CountedBytes implements GuestBytes {
  readonly #inner: GuestBytes;
  #count = 0;
  #isIdle = Promise.withResolvers<void>();

  constructor(inner: GuestBytes) {
    this.#inner = inner;
    this.#isIdle.resolve();
  }

  async *read(place: FilePlace, range: ByteRange, signal: AbortSignal): AsyncGenerator<ReadPart, void, undefined> {
    using _transfer = this.#begin();
    yield* this.#inner.read(place, range, signal);
  }

  async write(
    place: FilePlace,
    mode: number,
    data: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<FileEntry> {
    using _transfer = this.#begin();
    return await this.#inner.write(place, mode, data, signal);
  }

  // Resolves once none is under way, or with how many are when the limit is over.
  async drain(limitMs: number): Promise<number> {
    const over = new AbortController();
    const limit = sleep(limitMs, undefined, { signal: over.signal }).catch(() => undefined); // Over before it.
    await Promise.race([this.#isIdle.promise, limit]);
    over.abort();
    return this.#count;
  }

  #begin(): Disposable {
    if (this.#count === 0) this.#isIdle = Promise.withResolvers();
    this.#count += 1;
    return {
      [Symbol.dispose]: () => {
        this.#count -= 1;
        if (this.#count === 0) this.#isIdle.resolve();
      },
    };
  }
}
