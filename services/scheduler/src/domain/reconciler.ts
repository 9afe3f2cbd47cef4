// Brings database and hosts together again, both ways, and ends what an earlier life left half-done.
// A host that does not answer is left as it is: nobody knows what runs there.
import type { Clock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import type { Causes } from '@wrenn/kit/telemetry/causes';
import { inOwnTrace } from '@wrenn/kit/telemetry/span';

import { createLimitMs } from './create-sandbox.ts';
import type { DestroySandbox } from './destroy-sandbox.ts';
import { deathReasonOf, differences } from './differences.ts';
import { type Host, isAlive } from './host.ts';
import type { Operations } from './operations.ts';
import type { HostStore, HostVm, HostVms, SandboxStore } from './ports.ts';
import { hostedStates, isHosted } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';
import { type SettleSandbox, isUnsettled } from './settle-sandbox.ts';

export interface ReconcilerParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly vms: HostVms;
  readonly operations: Operations;
  readonly destroy: DestroySandbox;
  readonly settler: SettleSandbox;
  readonly causes: Causes;
  readonly clock: Clock;
  readonly log: Log;
}

const listLimitMs = 2000;
const removeLimitMs = 60_000;
const abandonedAfterMs = createLimitMs + 10_000;

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #startedAt: Date;
  // What was amiss at the last look, by host: `<sandbox> <its state> <state of its VM>`.
  readonly #doubts = new Map<string, ReadonlySet<string>>();
  readonly #removals = new Set<SandboxId>();

  constructor(parts: ReconcilerParts) {
    this.#parts = parts;
    this.#startedAt = parts.clock.now();
  }

  async tick(): Promise<void> {
    const { sandboxes, hosts, clock } = this.#parts;
    const alive = (await hosts.list()).filter((host) => isAlive(host, clock.now()));
    // A paused one is expected to be absent: nothing a host does or does not say of VMs changes it.
    const live = await sandboxes.inStates(hostedStates);
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
        if (!host && sandbox.hostId !== undefined) continue;
        // Its failure is logged by the release.
        this.#traced(sandbox.id, () => destroy.release(sandbox)).catch(() => undefined);
        continue;
      }
      const reason = this.#abandonmentOf(sandbox);
      if (reason === undefined) continue;
      const message = 'the scheduler that was creating it ended before it was ready';
      const ended = await this.#traced(sandbox.id, () => sandboxes.move(sandbox, { to: 'error', reason, message }));
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
    const { vms, operations, log } = this.#parts;
    const before = this.#doubts.get(host.id);
    this.#doubts.delete(host.id);
    let listed: HostVm[];
    try {
      listed = await vms.list(host.address, inMs(listLimitMs));
    } catch (error) {
      if (!hasReason(error, 'SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED')) throw error;
      log.debug({ err: error, host: host.id }, 'host does not answer; its sandboxes stay as they are');
      return;
    }
    const doubts = new Set<string>();
    const isSecondLook = ({ id, state }: Sandbox) => {
      const vm = listed.find(({ sandboxId }) => sandboxId === id);
      const doubt = `${id} ${state} ${vm?.state ?? 'none'}`;
      doubts.add(doubt);
      return before?.has(doubt) ?? false;
    };
    // What is being done to a sandbox right now explains what its VM does.
    const idle = placed.filter(({ id }) => !operations.owns(id));
    const found = differences(idle, listed);
    for (const sandbox of found.absent.filter((each) => !isUnsettled(each))) {
      if (isSecondLook(sandbox)) await this.#endAbsent(host, sandbox);
    }
    for (const { sandbox, vm } of found.dead) if (!isUnsettled(sandbox)) await this.#endDead(host, sandbox, vm);
    for (const sandbox of idle.filter(isUnsettled)) {
      const vm = listed.find(({ sandboxId }) => sandboxId === sandbox.id);
      // Not awaited: it may have to remove what is left of a VM.
      const isSecond = isSecondLook(sandbox);
      void this.#traced(sandbox.id, () => this.#settle(host, sandbox, vm, isSecond));
    }
    this.#doubts.set(host.id, doubts);
    const placedIds = new Set(placed.map(({ id }) => id));
    const strange = found.strange.filter((id) => !placedIds.has(id));
    await this.#removeStrangers(host, strange, isSecondLook);
  }

  // What looking brought to light is done in a trace of its own.
  #traced<T>(id: SandboxId, work: () => Promise<T>): Promise<T> {
    return inOwnTrace('reconcile', { 'wrenn.sandbox.id': id }, [this.#parts.causes.of(id)], work);
  }

  async #endAbsent(host: Host, sandbox: Sandbox): Promise<void> {
    const message = `host ${host.id} does not know it any more`;
    const move = { to: 'error', reason: 'VMM_LOST', message } as const;
    const ended = await this.#traced(sandbox.id, () => this.#parts.sandboxes.move(sandbox, move));
    if (ended) this.#remove(host, sandbox.id);
  }

  async #endDead(host: Host, sandbox: Sandbox, vm: HostVm): Promise<void> {
    const message = vm.deathMessage.slice(0, 1000);
    const move = { to: 'error', reason: deathReasonOf(vm), message } as const;
    const ended = await this.#traced(sandbox.id, () => this.#parts.sandboxes.move(sandbox, move));
    if (ended) this.#remove(host, sandbox.id);
  }

  // Finds out what became of a pause, resume or live snapshot that nobody saw the end of.
  async #settle(host: Host, seen: Sandbox, vm: HostVm | undefined, isSecondLook: boolean): Promise<void> {
    const { sandboxes, operations, settler, log } = this.#parts;
    const operation = operations.tryBegin(seen.id);
    if (!operation) return;
    try {
      const sandbox = await sandboxes.find(seen.id);
      // It was at work on until just now, perhaps after its host was asked.
      if (sandbox?.version !== seen.version) return;
      const verdict = await settler.settle(sandbox, { host, vm, isSecondLook }, 'SCHEDULER_RESTARTED');
      if (verdict !== 'none') return;
      if (vm) await this.#endDead(host, sandbox, vm);
      else if (isSecondLook) await this.#endAbsent(host, sandbox);
    } catch (error) {
      log.warn({ err: error, sandbox: seen.id, host: host.id }, 'settling a sandbox failed; it will be tried again');
    } finally {
      operation.end();
    }
  }

  // A VM may be newer than the record that was read, so the record is read again: it is always written
  // before its VM is made.
  async #removeStrangers(
    host: Host,
    ids: readonly SandboxId[],
    isSecondLook: (sandbox: Sandbox) => boolean,
  ): Promise<void> {
    if (ids.length === 0) return;
    const records = new Map((await this.#parts.sandboxes.findAll(ids)).map((sandbox) => [sandbox.id, sandbox]));
    for (const id of ids) {
      const record = records.get(id);
      const belongsHere = record && record.hostId === host.id && isHosted(record.state);
      if (belongsHere || this.#parts.operations.owns(id)) continue;
      if (record?.state !== 'paused') this.#remove(host, id);
      else if (isSecondLook(record)) void this.#removeOfPaused(host, id);
    }
  }

  // It may be resumed at any moment, so it is looked at again where nobody else can change it.
  async #removeOfPaused(host: Host, id: SandboxId): Promise<void> {
    const { sandboxes, vms, operations, log } = this.#parts;
    const operation = operations.tryBegin(id);
    if (!operation) return;
    try {
      if ((await sandboxes.find(id))?.state !== 'paused') return;
      const listed = await vms.list(host.address, inMs(listLimitMs));
      if (!listed.some(({ sandboxId }) => sandboxId === id)) return;
      log.warn({ sandbox: id, host: host.id }, 'removing the VM of a paused sandbox');
      await this.#traced(id, () => vms.destroy(host.address, id, inMs(removeLimitMs)));
    } catch (error) {
      log.warn({ err: error, sandbox: id, host: host.id }, 'removing a VM failed; it will be tried again');
    } finally {
      operation.end();
    }
  }

  #remove(host: Host, id: SandboxId): void {
    if (this.#removals.has(id)) return;
    this.#removals.add(id);
    const { vms, log } = this.#parts;
    log.info({ sandbox: id, host: host.id }, 'removing a VM that no sandbox needs');
    this.#traced(id, () => vms.destroy(host.address, id, inMs(removeLimitMs)))
      .catch((error: unknown) => {
        log.warn({ err: error, sandbox: id, host: host.id }, 'removing a VM failed; it will be tried again');
      })
      .finally(() => this.#removals.delete(id));
  }
}
