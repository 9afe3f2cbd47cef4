// Brings database and hosts together again, both ways, and ends what an earlier life left half-done.
// A host that does not answer is left as it is: nobody knows what runs there.
import type { Clock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import { createLimitMs } from './create-sandbox.ts';
import type { DestroySandbox } from './destroy-sandbox.ts';
import { deathReasonOf, differences } from './differences.ts';
import { type Host, isAlive } from './host.ts';
import type { Operations } from './operations.ts';
import type { HostStore, HostVms, SandboxStore } from './ports.ts';
import { isLive, liveStates } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';

export interface ReconcilerParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly vms: HostVms;
  readonly operations: Operations;
  readonly destroy: DestroySandbox;
  readonly clock: Clock;
  readonly log: Log;
}

const listLimitMs = 2000;
const removeLimitMs = 60_000;
const abandonedAfterMs = createLimitMs + 10_000;

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #startedAt: Date;
  // Running sandboxes that their host did not know the last time, by host.
  readonly #missed = new Map<string, ReadonlySet<SandboxId>>();
  readonly #removals = new Set<SandboxId>();

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#startedAt = parts.clock.now();
  }

  async tick(): Promise<void> {
    const { sandboxes, hosts, clock } = this.#parts;
    const alive = (await hosts.list()).filter((host) => isAlive(host, clock.now()));
    const live = await sandboxes.inStates(liveStates);
    await this.#endLeftovers(live, alive);
    await Promise.all(
      alive.map((host) =>
        this.#reconcileHost(
          host,
          live.filter(({ hostId }) => hostId === host.id),
        ),
      ),
    );
  }

  async #endLeftovers(live: readonly Sandbox[], alive: readonly Host[]): Promise<void> {
    const { sandboxes, operations, destroy } = this.#parts;
    for (const sandbox of live) {
      if (operations.owns(sandbox.id)) continue;
      const host = alive.find(({ id }) => id === sandbox.hostId);
      if (sandbox.state === 'destroying') {
        // Its failure is logged by the release.
        if (host || sandbox.hostId === undefined) void destroy.release(sandbox);
        continue;
      }
      const reason = this.#abandonmentOf(sandbox);
      if (reason === undefined) continue;
      const message = 'the scheduler that was creating it ended before it was ready';
      const ended = await sandboxes.move(sandbox, { to: 'error', reason, message });
      if (ended && host) this.#remove(host, sandbox.id);
    }
  }

  #abandonmentOf({ state, stateChangedAt }: Sandbox): string | undefined {
    if (state !== 'pending' && state !== 'starting') return undefined;
    if (stateChangedAt < this.#startedAt) return 'SCHEDULER_RESTARTED';
    const ageMs = this.#parts.clock.now().getTime() - stateChangedAt.getTime();
    return ageMs > abandonedAfterMs ? 'CREATE_ABANDONED' : undefined;
  }

  async #reconcileHost(host: Host, placed: readonly Sandbox[]): Promise<void> {
    const { sandboxes, vms, log } = this.#parts;
    const missedBefore = this.#missed.get(host.id);
    this.#missed.delete(host.id);
    let found;
    try {
      found = differences(placed, await vms.list(host.address, inMs(listLimitMs)));
    } catch (error) {
      if (!hasReason(error, 'SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      log.debug({ err: error, host: host.id }, 'host does not answer; its sandboxes stay as they are');
      return;
    }
    for (const sandbox of found.absent) {
      if (!missedBefore?.has(sandbox.id)) continue;
      const message = `host ${host.id} does not know it any more`;
      if (await sandboxes.move(sandbox, { to: 'error', reason: 'VMM_LOST', message })) this.#remove(host, sandbox.id);
    }
    this.#missed.set(host.id, new Set(found.absent.map(({ id }) => id)));
    for (const { sandbox, vm } of found.dead) {
      const message = vm.deathMessage.slice(0, 1000);
      const ended = await sandboxes.move(sandbox, { to: 'error', reason: deathReasonOf(vm), message });
      if (ended) this.#remove(host, sandbox.id);
    }
    await this.#removeStrangers(host, found.strange);
  }

  // A VM may be newer than the record that was read, so the record is read again: it is always written
  // before its VM is made.
  async #removeStrangers(host: Host, ids: readonly SandboxId[]): Promise<void> {
    if (ids.length === 0) return;
    const records = new Map((await this.#parts.sandboxes.findAll(ids)).map((sandbox) => [sandbox.id, sandbox]));
    for (const id of ids) {
      const record = records.get(id);
      const belongsHere = record && record.hostId === host.id && isLive(record.state);
      if (!belongsHere && !this.#parts.operations.owns(id)) this.#remove(host, id);
    }
  }

  #remove(host: Host, id: SandboxId): void {
    if (this.#removals.has(id)) return;
    this.#removals.add(id);
    const { vms, log } = this.#parts;
    log.info({ sandbox: id, host: host.id }, 'removing a VM that no sandbox needs');
    vms
      .destroy(host.address, id, inMs(removeLimitMs))
      .catch((error: unknown) => {
        log.warn({ err: error, sandbox: id, host: host.id }, 'removing a VM failed; it will be tried again');
      })
      .finally(() => this.#removals.delete(id));
  }
}
