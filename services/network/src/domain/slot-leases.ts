// Who holds which slot. A lease is on disk before its owner hears of it, and off the disk before its
// network is touched: whenever this process dies, the book and the kernel can be brought together again.
import { WrennError } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { inSpan, setAttributes } from '@wrenn/kit/telemetry/span';

import type { Leases } from './lease-book.ts';
import { OwnerQueue } from './owner-queue.ts';
import type { Slot } from './slot.ts';
import type { SlotStock } from './slot-stock.ts';

export interface LeaseStore {
  // Resolves once the leases, as they stand when the write begins, are durable.
  save(current: () => Leases): Promise<void>;
}

export interface SlotLeasesOptions {
  readonly stock: SlotStock;
  readonly store: LeaseStore;
  readonly adopted: ReadonlyMap<SandboxId, Slot>;
  readonly log: Log;
}

export class SlotLeases {
  readonly #leases: Map<SandboxId, Slot>;
  readonly #queue = new OwnerQueue();
  readonly #stock: SlotStock;
  readonly #store: LeaseStore;
  readonly #log: Log;

  constructor({ stock, store, adopted, log }: SlotLeasesOptions) {
    this.#stock = stock;
    this.#store = store;
    this.#leases = new Map(adopted);
    this.#log = log;
  }

  lease(owner: SandboxId): Promise<Slot> {
    return this.#queue.run(owner, async () => {
      const held = this.#leases.get(owner);
      if (held) return held;
      const slot = await inSpan('take slot', {}, () => this.#stock.take());
      setAttributes({ 'wrenn.slot': slot.index });
      this.#leases.set(owner, slot);
      try {
        await failpoint('network.lease.taken');
        await inSpan('record lease', {}, () => this.record());
      } catch (error) {
        this.#leases.delete(owner);
        this.#stock.putBack(slot);
        throw error;
      }
      await failpoint('network.lease.recorded');
      this.#log.info({ sandbox: owner, slot: slot.index }, 'slot leased');
      return slot;
    });
  }

  release(owner: SandboxId): Promise<void> {
    return this.#queue.run(owner, async () => {
      const slot = this.#leases.get(owner);
      if (!slot) {
        if (this.#stock.isStuck(owner)) throw notRemoved(owner);
        return;
      }
      this.#leases.delete(owner);
      try {
        await inSpan('record lease', {}, () => this.record());
      } catch (error) {
        this.#leases.set(owner, slot);
        throw error;
      }
      setAttributes({ 'wrenn.slot': slot.index });
      await inSpan('remove network', {}, () => this.#stock.retire(slot, owner)).catch((error: unknown) => {
        throw notRemoved(owner, error);
      });
      this.#log.info({ sandbox: owner, slot: slot.index }, 'slot released');
    });
  }

  list(): ReadonlyMap<SandboxId, Slot> {
    return this.#leases;
  }

  // Resolves once the book on disk says what is true now.
  record(): Promise<void> {
    return this.#store.save(() => new Map([...this.#leases].map(([owner, slot]) => [owner, slot.index])));
  }
}

function notRemoved(owner: SandboxId, cause?: unknown): WrennError {
  const text = `the network of ${owner} is not removed yet; it is kept out of use and removing it is tried again`;
  return new WrennError('SERVICE_UNAVAILABLE', text, { cause });
}
