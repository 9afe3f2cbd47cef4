// Where guests are, as the scheduler says, kept for a few seconds: a page is dozens of requests. The
// address of a sandbox that is gone soon belongs to another, so an address is kept only while the edge
// hears of state changes, and dropped with the first one.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import { whileAlive } from '@wrenn/kit/while-alive';
import type { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';

import { Refusal } from '../domain/refusal.ts';

const keptMs = 5000;
const maxKept = 10_000;
const silentMs = 3000;
// As long as a resume may take, which the scheduler says it is at.
const wakeLimitMs = 65_000;

export class SandboxAddresses {
  readonly #scheduler: RpcClient<typeof SchedulerService.method>;
  #isFollowing = false;
  readonly #kept = new Map<SandboxId, { readonly address: Promise<string>; readonly untilMs: number }>();

  constructor(scheduler: RpcClient<typeof SchedulerService.method>) {
    this.#scheduler = scheduler;
  }

  // Callers that ask at once share one question. Failures are not kept.
  async resolve(id: SandboxId): Promise<string> {
    const kept = this.#kept.get(id);
    if (kept && kept.untilMs > Date.now()) return kept.address;
    const address = this.#ask(id);
    if (!this.#isFollowing) return address;
    if (this.#kept.size >= maxKept) this.#forgetOldest();
    const entry = { address, untilMs: Date.now() + keptMs };
    this.#kept.delete(id);
    this.#kept.set(id, entry);
    try {
      return await address;
    } catch (error) {
      if (this.#kept.get(id) === entry) this.#kept.delete(id);
      throw error;
    }
  }

  // For an address that turned out to be wrong.
  forget(id: SandboxId): void {
    this.#kept.delete(id);
  }

  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  // Says whether `forget` is called for every sandbox that changes its state from now on.
  setFollowing(isFollowing: boolean): void {
    this.#isFollowing = isFollowing;
    if (!isFollowing) this.#kept.clear();
  }

  #forgetOldest(): void {
    for (const id of this.#kept.keys()) {
      this.#kept.delete(id);
      return;
    }
  }

  async #ask(id: SandboxId): Promise<string> {
    try {
      const { guestAddress } = await whileAlive('scheduler', silentMs, undefined, (alive) =>
        this.#scheduler.resolveSandbox({ sandboxId: id }, { ...inMs(wakeLimitMs), ...alive }),
      );
      return guestAddress;
    } catch (error) {
      throw refusalOf(error);
    }
  }
}

function refusalOf(error: unknown): unknown {
  if (!(error instanceof WrennError)) return error;
  switch (error.reason) {
    case 'SANDBOX_NOT_FOUND':
      return new Refusal('SANDBOX_NOT_FOUND', 'there is no such sandbox', { cause: error });
    case 'SANDBOX_NOT_RUNNING':
      return new Refusal('SANDBOX_NOT_RUNNING', 'the sandbox is not running', { cause: error });
    default:
      return new Refusal('SERVICE_UNAVAILABLE', 'the sandbox cannot be looked up now', { cause: error });
  }
}
