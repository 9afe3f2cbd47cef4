// Slots that nobody holds: free ones, and some built ahead of need. A slot is free only once its network
// is really gone; one that cannot be removed stays out of use until a later attempt succeeds.
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { currentCause, inOwnTrace, setAttributes } from '@wrenn/kit/telemetry/span';

import { type Slot, type SlotRange, slotAt } from './slot.ts';

// The kernel's side of a slot. A build that fails may leave remains: remove() is what cleans up.
export interface SlotNetworks {
  build(slot: Slot): Promise<void>;
  // Resolves only when nothing of the slot is left. Removing what is not there is a success.
  remove(slot: Slot): Promise<void>;
}

export interface SlotStockOptions {
  readonly range: SlotRange;
  readonly readyGoal: number; // Slots to keep built.
  readonly networks: SlotNetworks;
  readonly log: Log;
  // Waits, or rejects once the signal aborts.
  readonly pause: (ms: number, signal: AbortSignal) => Promise<void>;
}

const atOnce = 4; // Builds or removals; more only wait for the kernel's lock on links.
const answerFirstMs = 20;
const firstRetryMs = 100;
const lastRetryMs = 30_000;

export class SlotStock {
  readonly #options: SlotStockOptions;
  readonly #free: number[] = []; // The longest unused first.
  readonly #ready: Slot[] = [];
  readonly #waiters: PromiseWithResolvers<Slot>[] = [];
  readonly #stuck = new Map<Slot, SandboxId | undefined>(); // Not removable for now; the last owner.
  readonly #work = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  #building = 0;
  #failedFills = 0;
  #isFillPaused = false;

  constructor(options: SlotStockOptions) {
    this.#options = options;
  }

  get readyCount(): number {
    return this.#ready.length;
  }

  // Not removable for now, and so of no use to anybody.
  get stuckCount(): number {
    return this.#stuck.size;
  }

  // Takes free slots in and begins to build.
  add(free: readonly number[]): void {
    this.#free.push(...free);
    this.#fill();
  }

  // A complete slot: a ready one at once, else one built now.
  async take(): Promise<Slot> {
    if (this.#closing.signal.aborted) throw stopping();
    const slot = this.#ready.shift();
    setAttributes({ 'wrenn.slot.was_ready': slot !== undefined });
    if (slot === undefined && this.#free.length + this.#building <= this.#waiters.length) throw this.#exhausted();
    const waiter = Promise.withResolvers<Slot>();
    if (slot) {
      waiter.resolve(slot);
      this.#track(this.#fillSoon());
    } else {
      this.#waiters.push(waiter);
      this.#fill();
    }
    return waiter.promise;
  }

  // Takes back a slot that no guest has seen.
  putBack(slot: Slot): void {
    this.#offer(slot);
  }

  // Removes a slot's network and frees the slot. If that fails it is tried again, less and less often.
  async retire(slot: Slot, owner?: SandboxId): Promise<void> {
    try {
      await this.#options.networks.remove(slot);
    } catch (error) {
      this.#stuck.set(slot, owner);
      this.#options.log.error({ err: error, slot: slot.index, sandbox: owner }, 'slot kept out of use: not removed');
      this.#track(this.#retryRemoval(slot));
      throw error;
    }
    this.#release(slot);
  }

  // Retires slots that nobody holds, a few at a time. What fails is logged and tried again.
  async sweep(slots: readonly Slot[]): Promise<void> {
    for (let start = 0; start < slots.length; start += atOnce) {
      await Promise.allSettled(slots.slice(start, start + atOnce).map((slot) => this.retire(slot)));
    }
  }

  // Whether a slot that this owner gave back has still to be removed.
  isStuck(owner: SandboxId): boolean {
    return [...this.#stuck.values()].includes(owner);
  }

  // Ends all work and removes the slots that were built and not taken.
  async close(): Promise<void> {
    this.#closing.abort();
    for (const waiter of this.#waiters.splice(0)) waiter.reject(stopping());
    while (this.#work.size > 0) await Promise.all(this.#work);
    await this.sweep(this.#ready.splice(0));
  }

  // Starting programs holds up the event loop: the answer with the taken slot goes first.
  async #fillSoon(): Promise<void> {
    if (await this.#waited(answerFirstMs)) this.#fill();
  }

  #fill(): void {
    while (this.#building < Math.min(atOnce, this.#wanted()) && !this.#closing.signal.aborted) {
      const index = this.#free.shift();
      if (index === undefined) return;
      this.#building += 1;
      this.#track(this.#build(slotAt(index)));
    }
  }

  #wanted(): number {
    const spare = this.#isFillPaused ? 0 : this.#options.readyGoal - this.#ready.length;
    return this.#waiters.length + Math.max(0, spare);
  }

  async #build(slot: Slot): Promise<void> {
    try {
      await inOwnTrace('build slot', { 'wrenn.slot': slot.index }, [currentCause()], () =>
        this.#options.networks.build(slot),
      );
    } catch (error) {
      this.#building -= 1;
      await this.#buildFailed(slot, error);
      return;
    }
    this.#building -= 1;
    this.#failedFills = 0;
    this.#offer(slot);
  }

  async #buildFailed(slot: Slot, error: unknown): Promise<void> {
    const { log } = this.#options;
    log.error({ err: error, slot: slot.index }, 'slot not built');
    const text = `network slot ${slot.index} could not be built; the log of the network service says why`;
    this.#waiters.shift()?.reject(new WrennError('SERVICE_UNAVAILABLE', text, { cause: error }));
    this.#failedFills += 1;
    if (!this.#isFillPaused) this.#track(this.#pauseFilling());
    await this.retire(slot).catch(() => log.debug({ slot: slot.index }, 'what was built will be removed later'));
  }

  // A kernel that refuses a slot now will refuse the next one too: building ahead waits a while.
  async #pauseFilling(): Promise<void> {
    this.#isFillPaused = true;
    await this.#waitedToRetry(this.#failedFills);
    this.#isFillPaused = false;
    this.#fill();
  }

  async #retryRemoval(slot: Slot): Promise<void> {
    for (let attempt = 1; await this.#waitedToRetry(attempt); attempt += 1) {
      try {
        await inOwnTrace('remove slot', { 'wrenn.slot': slot.index, 'wrenn.attempt': attempt }, [currentCause()], () =>
          this.#options.networks.remove(slot),
        );
      } catch (error) {
        this.#options.log.warn({ err: error, slot: slot.index, attempt }, 'slot still not removed');
        continue;
      }
      this.#options.log.info({ slot: slot.index }, 'slot removed at last');
      this.#stuck.delete(slot);
      this.#release(slot);
      return;
    }
  }

  #waitedToRetry(attempt: number): Promise<boolean> {
    return this.#waited(Math.min(lastRetryMs, firstRetryMs * 2 ** (attempt - 1)));
  }

  // False if the stock is closing.
  #waited(ms: number): Promise<boolean> {
    const { signal } = this.#closing;
    return this.#options.pause(ms, signal).then(
      () => !signal.aborted,
      (error: unknown) => {
        if (signal.aborted) return false;
        throw error;
      },
    );
  }

  #offer(slot: Slot): void {
    const waiter = this.#waiters.shift();
    if (waiter) waiter.resolve(slot);
    else this.#ready.push(slot);
    this.#fill();
  }

  #release(slot: Slot): void {
    this.#free.push(slot.index);
    this.#fill();
  }

  #exhausted(): WrennError {
    const { first, last } = this.#options.range;
    const text = `all network slots of this host (${first} to ${last}) are in use; destroy a sandbox or widen the range`;
    return new WrennError('NO_SLOT_LEFT', text, { meta: { first: String(first), last: String(last) } });
  }

  #track(work: Promise<void>): void {
    const tracked = work
      .catch((error: unknown) => this.#options.log.error({ err: error }, 'work on slots failed'))
      .finally(() => this.#work.delete(tracked));
    this.#work.add(tracked);
  }
}

function stopping(): WrennError {
  return new WrennError('SERVICE_UNAVAILABLE', 'the network service is stopping');
}
