// Where guests are and who may reach them, as the scheduler says, kept for a few seconds: a page is dozens of requests.
// The address of a sandbox that is gone soon belongs to another, so what is known is kept only while the edge hears of
// changes, and dropped with the first one. That there is no such sandbox is kept as well.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import { whileAlive } from '@wrenn/kit/while-alive';
import type { FindSandboxResponse, SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

import type { Access } from '../domain/access.ts';
import { Refusal, notFound } from '../domain/refusal.ts';
import type { Whereabouts } from './guest-dialer.ts';

interface Found {
  readonly access: Access;
  readonly at: Whereabouts | undefined; // Unless it does not run.
  readonly isPaused: boolean;
  readonly canWake: boolean;
}

const keptMs = 5000;
const maxKept = 10_000;
const silentMs = 3000;
// As long as a resume may take, which the scheduler says it is at.
const wakeLimitMs = 65_000;

export class SandboxAddresses {
  readonly #scheduler: RpcClient<typeof SchedulerService.method>;
  #isFollowing = false;
  readonly #kept = new Map<SandboxId, { readonly found: Promise<Found | undefined>; readonly untilMs: number }>();
  readonly #waking = new Map<SandboxId, Promise<Whereabouts>>();

  constructor(scheduler: RpcClient<typeof SchedulerService.method>) {
    this.#scheduler = scheduler;
  }

  // Undefined: there is no such sandbox.
  async accessOf(id: SandboxId): Promise<Access | undefined> {
    return (await this.#find(id))?.access;
  }

  // One that is paused and may be woken is, once for all who ask meanwhile.
  async resolve(id: SandboxId): Promise<Whereabouts> {
    const found = await this.#find(id);
    if (!found) throw notFound();
    if (found.at) return found.at;
    if (found.canWake) return this.#awake(id);
    if (found.isPaused) throw new Refusal('SANDBOX_PAUSED', 'the sandbox is paused, and no request resumes it');
    throw new Refusal('SANDBOX_NOT_RUNNING', 'the sandbox is not running');
  }

  // For an address that turned out to be wrong, or a change.
  forget(id: SandboxId): void {
    this.#kept.delete(id);
  }

  get isFollowing(): boolean {
    return this.#isFollowing;
  }

  // Says whether `forget` is called for every sandbox that changes from now on.
  setFollowing(isFollowing: boolean): void {
    this.#isFollowing = isFollowing;
    if (!isFollowing) this.#kept.clear();
  }

  #find(id: SandboxId): Promise<Found | undefined> {
    const kept = this.#kept.get(id);
    return kept && kept.untilMs > Date.now() ? kept.found : this.#findAnew(id);
  }

  // Callers that ask at once share one question. Failures are not kept.
  async #findAnew(id: SandboxId): Promise<Found | undefined> {
    const found = this.#ask(id);
    if (!this.#isFollowing) return found;
    if (this.#kept.size >= maxKept) this.#forgetOldest();
    const entry = { found, untilMs: Date.now() + keptMs };
    this.#kept.delete(id);
    this.#kept.set(id, entry);
    try {
      return await found;
    } catch (error) {
      if (this.#kept.get(id) === entry) this.#kept.delete(id);
      throw error;
    }
  }

  #forgetOldest(): void {
    for (const id of this.#kept.keys()) {
      this.#kept.delete(id);
      return;
    }
  }

  async #ask(id: SandboxId): Promise<Found | undefined> {
    try {
      return foundOf(await this.#scheduler.findSandbox({ sandboxId: id }, inMs(silentMs)));
    } catch (error) {
      if (error instanceof WrennError && error.reason === 'SANDBOX_NOT_FOUND') return undefined;
      throw new Refusal('SERVICE_UNAVAILABLE', 'the sandbox cannot be looked up now', { cause: error });
    }
  }

  #awake(id: SandboxId): Promise<Whereabouts> {
    const known = this.#waking.get(id);
    if (known) return known;
    const waking = this.#wake(id).finally(() => this.#waking.delete(id));
    this.#waking.set(id, waking);
    return waking;
  }

  async #wake(id: SandboxId): Promise<Whereabouts> {
    try {
      const { hostId, guestAddress: address } = await whileAlive('scheduler', silentMs, undefined, (alive) =>
        this.#scheduler.resolveSandbox({ sandboxId: id }, { ...inMs(wakeLimitMs), ...alive }),
      );
      return { hostId, address };
    } catch (error) {
      throw wakeRefusal(error);
    } finally {
      // What was known of it is of before.
      this.forget(id);
    }
  }
}

function foundOf({ access, hostId, guestAddress, state, autoResume }: FindSandboxResponse): Found {
  if (!access) throw new Error('the scheduler tells nothing of who may reach it');
  const { secure: isSecure, publicPorts, trafficToken, accessToken } = access;
  return {
    access: { isSecure, publicPorts, trafficToken, accessToken },
    at: guestAddress === '' ? undefined : { hostId, address: guestAddress },
    isPaused: state === SandboxState.PAUSED,
    canWake: autoResume && wakingStates.has(state),
  };
}

const wakingStates: ReadonlySet<SandboxState> = new Set([
  SandboxState.PAUSING,
  SandboxState.PAUSED,
  SandboxState.RESUMING,
]);

function wakeRefusal(error: unknown): unknown {
  if (!(error instanceof WrennError)) return error;
  switch (error.reason) {
    case 'SANDBOX_NOT_FOUND':
      return notFound(error);
    case 'SANDBOX_NOT_RUNNING':
      return new Refusal('SANDBOX_NOT_RUNNING', 'the sandbox is not running', { cause: error });
    case 'SERVICE_UNAVAILABLE':
    case 'DATABASE_UNAVAILABLE':
      return new Refusal('SERVICE_UNAVAILABLE', 'the sandbox cannot be looked up now', { cause: error });
    default:
      return new Refusal('SANDBOX_NOT_RESUMED', `the sandbox could not be resumed: ${error.reason}`, { cause: error });
  }
}
