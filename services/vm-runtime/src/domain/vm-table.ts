// Every VM of this host: what is asked of one goes to it by its sandbox's id.
import { setTimeout as sleep } from 'node:timers/promises';

import type { Clock } from '@wrenn/kit/clock';
import type { CallDeadline } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import { type Stage, StageTimer } from '@wrenn/kit/stage-timer';
import { currentCause, inOwnTrace, untraced } from '@wrenn/kit/telemetry/span';

import { HostedVm, type HostedVmParts, type Taken, notHere } from './hosted-vm.ts';
import type { FreezeOrder, RunningVm, VmRecord, VmSpec, VmState } from './vm.ts';

export interface VmView {
  readonly sandboxId: SandboxId;
  readonly createdAt: Date;
  readonly state: VmState;
}

export interface VmTableParts extends HostedVmParts {
  readonly clock: Clock;
}

const strayPauseMs = 1000;

export class VmTable {
  readonly #parts: VmTableParts;
  readonly #vms = new Map<SandboxId, HostedVm>();
  readonly #closed = new AbortController();

  constructor(parts: VmTableParts) {
    this.#parts = parts;
  }

  // One that is frozen for good is a snapshot, and not there any more.
  list(): VmView[] {
    return [...this.#vms.values()].filter(({ state }) => state.name !== 'frozen');
  }

  // Errors: SANDBOX_NOT_FOUND, and those of the VM's.
  async serving(sandboxId: SandboxId): Promise<RunningVm> {
    return this.#get(sandboxId).serving();
  }

  // Errors: SANDBOX_NOT_FOUND, and those of the VM's.
  running(sandboxId: SandboxId): RunningVm {
    return this.#get(sandboxId).running();
  }

  // Errors: VM_EXISTS, and those of booting.
  async create(spec: VmSpec, caller: CallDeadline): Promise<{ vm: VmView; stages: Stage[] }> {
    const { sandboxId } = spec;
    // A sandbox may be resumed while what it held is still being released, by an earlier life of this service too.
    await this.#vms.get(sandboxId)?.makeRoom();
    if (this.#vms.has(sandboxId)) throw new WrennError('VM_EXISTS', `this host has a VM for ${sandboxId} already`);
    const vm = this.#enter(sandboxId, this.#parts.clock.now());
    const timer = new StageTimer();
    await vm.boot(spec, caller, timer);
    this.#parts.log.info({ sandbox: sandboxId, kind: spec.kind, stages: timer.stages }, 'vm runs');
    return { vm, stages: timer.stages };
  }

  // Errors: SANDBOX_NOT_FOUND, and those of the VM's.
  async snapshot(
    sandboxId: SandboxId,
    order: FreezeOrder,
    caller: CallDeadline,
    timer = new StageTimer(),
  ): Promise<Taken> {
    return this.#get(sandboxId).snapshot(order, caller, timer);
  }

  // Errors: SANDBOX_NOT_FOUND, and those of the VM's.
  async requireGoingOn(sandboxId: SandboxId): Promise<void> {
    return this.#get(sandboxId).requireGoingOn();
  }

  // Also of one that is not here: the peers may keep something for it.
  async destroy(sandboxId: SandboxId): Promise<void> {
    const vm = this.#vms.get(sandboxId) ?? this.#enter(sandboxId, this.#parts.clock.now());
    return vm.destroy();
  }

  // Takes up where an earlier life of this service ended: running VMs are adopted and served at once. Frozen ones
  // become snapshots and all else is released behind that, since neither a VMM that stands still nor a peer that is
  // down may hold them up.
  async adopt(): Promise<void> {
    for (const record of await this.#parts.journal.readAll()) {
      const attributes = { 'wrenn.sandbox.id': record.sandboxId, 'wrenn.vm.phase': record.phase };
      await inOwnTrace('adopt vm', attributes, [], async () => this.#adoptOne(record));
    }
    void this.#releaseStrays();
  }

  // Stops watching; the VMs themselves run on and are adopted by the next life.
  close(): void {
    this.#closed.abort();
    for (const vm of this.#vms.values()) vm.disconnect();
  }

  #get(sandboxId: SandboxId): HostedVm {
    const vm = this.#vms.get(sandboxId);
    if (!vm) throw notHere(sandboxId);
    return vm;
  }

  #enter(sandboxId: SandboxId, createdAt: Date): HostedVm {
    const released = () => this.#vms.delete(sandboxId);
    const vm = new HostedVm(sandboxId, createdAt, this.#parts, { closed: this.#closed.signal, released });
    this.#vms.set(sandboxId, vm);
    return vm;
  }

  #adoptOne(record: VmRecord): void {
    const { sandboxId } = record;
    const vm = this.#enter(sandboxId, new Date(record.createdAtMs));
    if (record.phase !== 'starting' && vm.takeUp(record)) return;
    this.#parts.log.warn(
      { sandbox: sandboxId, phase: record.phase },
      'vm of an earlier life is gone, or was never ready',
    );
    this.#discard(sandboxId);
  }

  // What the peers keep for a sandbox that is not here. A VM is listed here before it acquires anything, so
  // nothing of one that is being made is ever taken for a stray.
  async #releaseStrays(): Promise<void> {
    const { slots, disks, log } = this.#parts;
    for (;;) {
      try {
        const owners = await untraced(async () => new Set([...(await slots.owners()), ...(await disks.ids())]));
        for (const owner of owners) if (!this.#vms.has(owner)) this.#discard(owner);
        return;
      } catch (error) {
        log.warn({ err: error }, 'strays of an earlier life not found yet; will be tried again');
      }
      try {
        await sleep(strayPauseMs, undefined, { signal: this.#closed.signal });
      } catch {
        return; // Closed.
      }
    }
  }

  // What cannot be released is logged and stays listed, so that the scheduler asks again.
  #discard(sandboxId: SandboxId): void {
    const destroyed = inOwnTrace('discard vm', { 'wrenn.sandbox.id': sandboxId }, [currentCause()], () =>
      this.destroy(sandboxId),
    );
    destroyed.catch(() => undefined);
  }
}
