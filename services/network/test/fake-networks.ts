// A kernel that fails on command, for the faults that a real one will not give when asked.
import type { Slot } from '../src/domain/slot.ts';
import type { SlotNetworks } from '../src/domain/slot-stock.ts';

export class FakeNetworks implements SlotNetworks {
  readonly present = new Set<number>(); // Slots of which anything is there.
  readonly failsToBuild = new Set<number>();
  readonly failsToRemove = new Set<number>();
  buildCount = 0;
  #gate: Promise<void> = Promise.resolve();

  async build(slot: Slot): Promise<void> {
    this.buildCount += 1;
    this.present.add(slot.index);
    await this.#gate;
    if (this.failsToBuild.has(slot.index)) throw new Error(`the kernel refuses slot ${slot.index}`);
  }

  async remove(slot: Slot): Promise<void> {
    if (this.failsToRemove.has(slot.index)) throw new Error(`slot ${slot.index} is busy`);
    this.present.delete(slot.index);
  }

  // Builds begun from now on do not end before the returned function is called.
  holdBuilds(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#gate = promise;
    return resolve;
  }
}

// Time that passes only when told to.
export class FakePauses {
  readonly asked: number[] = [];
  #waiting: (() => void)[] = [];

  readonly pause = (ms: number, signal: AbortSignal): Promise<void> => {
    this.asked.push(ms);
    return new Promise((resolve, reject) => {
      this.#waiting.push(resolve);
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
      if (signal.aborted) reject(signal.reason as Error);
    });
  };

  pass(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
