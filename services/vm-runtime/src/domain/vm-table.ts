// Every VM of this host. One lifecycle operation at a time per sandbox: a destroy makes a create give up,
// waits for it, and then releases whatever is there.
import { setTimeout as sleep } from 'node:timers/promises';

import type { Clock } from '@wrenn/kit/clock';
import type { CallDeadline } from '@wrenn/kit/deadlines';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import { type Stage, StageTimer } from '@wrenn/kit/stage-timer';
import { typeOf } from '@wrenn/kit/telemetry/failures';
import { addEvent, currentCause, inOwnTrace, setAttributes, untraced } from '@wrenn/kit/telemetry/span';
import { UndoStack } from '@wrenn/kit/undo-stack';
import type { Snapshot } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { type BootParts, bootVm } from './boot-vm.ts';
import { allOf } from './all-of.ts';
import type { ComingSnapshots } from './coming-snapshots.ts';
import { drainVm, freezeVm, goOn, stageFrozen } from './freeze-vm.ts';
import type { GuestAgent } from './guest-agent.ts';
import type {
  BulkServer,
  Consoles,
  Death,
  FreezeOrder,
  FrozenRecord,
  MachineProcesses,
  RunningVm,
  VmRecord,
  VmSpec,
  VmState,
} from './vm.ts';
import { type WatchdogTimes, untilStuck } from './watchdog.ts';

export interface VmView {
  readonly sandboxId: SandboxId;
  readonly createdAt: Date;
  readonly state: VmState;
}

interface Vm {
  readonly sandboxId: SandboxId;
  readonly createdAt: Date;
  readonly giveUp: AbortController;
  state: VmState;
  operation: Promise<unknown>;
  // Settles when one that was frozen to go on, or that could not be frozen, does go on.
  goingOn?: Promise<unknown>;
}

// What a freeze has led to, and where the time went. That of a paused VM is still to come to the store.
export interface Taken {
  readonly snapshot: Snapshot | undefined;
  readonly stages: Stage[];
}

export interface VmTableParts extends BootParts {
  readonly snapshots: ComingSnapshots;
  readonly clock: Clock;
  readonly bulk: BulkServer;
  readonly consoles: Consoles;
  readonly died?: (death: Death) => void;
  readonly watchdogTimes?: WatchdogTimes;
}

// A restore that nobody waits for: of a VM that was frozen to go on.
const goOnLimitMs = 60_000;
// How long the caller of a freeze that failed waits for its VM to go on.
const thawAnswerLimitMs = 5000;
const thawPauseMs = 1000;
// What a pause still has to do elsewhere before its caller is answered takes less. Until then it has the processors to
// itself, of which the kernel takes its time to end a VMM.
const answerFirstMs = 20;
const strayPauseMs = 1000;

export class VmTable {
  readonly #parts: VmTableParts;
  readonly #vms = new Map<SandboxId, Vm>();
  readonly #closed = new AbortController();

  constructor(parts: VmTableParts) {
    this.#parts = parts;
  }

  // One that is frozen for good is a snapshot, and not there any more.
  list(): VmView[] {
    return [...this.#vms.values()].filter(({ state }) => state.name !== 'frozen');
  }

  // For a call on a VM: one that is being frozen to go on, or thawed, has it wait for that. One that is being paused
  // refuses it as something not begun, which may be asked again once it is resumed. Errors: those of `running`.
  async serving(sandboxId: SandboxId): Promise<RunningVm> {
    await this.#vms.get(sandboxId)?.goingOn;
    return this.running(sandboxId);
  }

  // Errors: SANDBOX_NOT_FOUND, SANDBOX_NOT_RUNNING, VMM_DIED.
  running(sandboxId: SandboxId): RunningVm {
    const state = this.#vms.get(sandboxId)?.state;
    if (!state) throw notHere(sandboxId);
    if (state.name === 'running') return state;
    if (state.name === 'dead') throw new WrennError('VMM_DIED', state.death.message);
    throw notRunning(sandboxId, state);
  }

  async create(spec: VmSpec, caller: CallDeadline): Promise<{ vm: VmView; stages: Stage[] }> {
    const { sandboxId } = spec;
    // A sandbox may be resumed while what it held is still being released, by an earlier life of this service too.
    const before = this.#vms.get(sandboxId);
    if (before?.state.name === 'frozen' || before?.state.name === 'stopping') await before.operation;
    await this.#releaseAgain(this.#vms.get(sandboxId));
    if (this.#vms.has(sandboxId)) throw new WrennError('VM_EXISTS', `this host has a VM for ${sandboxId} already`);
    const vm = newVm(sandboxId, this.#parts.clock.now());
    this.#vms.set(sandboxId, vm);
    const timer = new StageTimer();
    const signal = AbortSignal.any([caller.signal, vm.giveUp.signal]);
    const operation = this.#boot(vm, spec, { ...caller, signal }, timer);
    vm.operation = operation.catch(() => undefined);
    await operation;
    this.#parts.log.info({ sandbox: sandboxId, kind: spec.kind, stages: timer.stages }, 'vm runs');
    return { vm, stages: timer.stages };
  }

  // Returns once the VM is frozen or, to keep it running, goes on from its snapshot; a paused VM becomes one, and what
  // it held is released, behind that. After an error before it is frozen it goes on: mostly before this throws, and as
  // soon as it can where it stands still.
  async snapshot(
    sandboxId: SandboxId,
    order: FreezeOrder,
    caller: CallDeadline,
    timer = new StageTimer(),
  ): Promise<Taken> {
    const vm = this.#vms.get(sandboxId);
    if (!vm) throw notHere(sandboxId);
    const { state } = vm;
    if (state.name !== 'running') {
      this.running(sandboxId);
      throw notRunning(sandboxId, state);
    }
    vm.state = { ...state, name: 'freezing' };
    setAttributes({ 'wrenn.snapshot.id': order.snapshotId, 'wrenn.snapshot.keeps_running': order.keepRunning });
    const frozen = this.#freeze(vm, state, order, caller, timer);
    const snapshot = await this.#goFrom(vm, frozen, order, timer, state.agent);
    this.#parts.log.info({ sandbox: sandboxId, ...order, stages: timer.stages }, 'vm frozen');
    return { snapshot, stages: timer.stages };
  }

  // Waits for what is being done to a VM that was frozen to go on, and throws unless it runs then.
  async requireGoingOn(sandboxId: SandboxId): Promise<void> {
    await this.#vms.get(sandboxId)?.operation;
    this.running(sandboxId);
  }

  async destroy(sandboxId: SandboxId): Promise<void> {
    let vm = this.#vms.get(sandboxId);
    if (!vm) {
      vm = newVm(sandboxId, this.#parts.clock.now());
      this.#vms.set(sandboxId, vm);
    }
    vm.giveUp.abort();
    const destruction = vm.operation.then(() => this.#destroyNow(vm));
    vm.operation = destruction.catch(() => undefined);
    return destruction;
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

  // Stops watching; the VMs themselves run on and are adopted by the next life.
  close(): void {
    this.#closed.abort();
    for (const { state } of this.#vms.values()) if (isUp(state)) state.agent.close('VMM_DIED');
  }

  async #boot(vm: Vm, spec: VmSpec, caller: CallDeadline, timer: StageTimer, frozen?: VmRecord): Promise<void> {
    const undo = new UndoStack();
    const { sandboxId, createdAt } = vm;
    const begun: VmRecord = frozen ?? { sandboxId, createdAtMs: createdAt.getTime(), phase: 'starting' };
    try {
      const running = await bootVm(this.#parts, spec, begun, caller, undo, timer);
      undo.commit();
      this.#enterRunning(vm, running);
      this.#watch(vm, running);
    } catch (error) {
      this.#parts.log.warn({ err: error, sandbox: spec.sandboxId }, 'vm not made');
      await this.#release(vm, undo);
      throw error;
    }
  }

  async #freeze(
    vm: Vm,
    running: RunningVm,
    order: FreezeOrder,
    caller: CallDeadline,
    timer: StageTimer,
  ): Promise<FrozenRecord> {
    const createdAtMs = vm.createdAt.getTime();
    await drainVm(this.#parts.bulk, running, caller, timer, this.#parts.log);
    this.#parts.bulk.remove(vm.sandboxId, 'SANDBOX_PAUSED');
    this.#parts.consoles.remove(vm.sandboxId);
    try {
      await freezeVm(this.#parts, running, createdAtMs, order, caller, timer);
    } catch (error) {
      this.#parts.log.warn({ err: error, sandbox: vm.sandboxId }, 'vm not frozen; it goes on');
      addEvent('vm goes on', { 'error.type': typeOf(error) });
      const thawed = this.#thaw(vm, running);
      if (!vm.giveUp.signal.aborted) vm.operation = vm.goingOn = thawed;
      await Promise.race([thawed, sleep(thawAnswerLimitMs, undefined, { ref: false })]);
      throw error;
    }
    return { sandboxId: vm.sandboxId, createdAtMs, phase: 'frozen', facts: running.facts, order };
  }

  // From `frozen` on: also what another life of this service began, of whose agent nobody holds anything any more. A
  // pause is over then, and what comes behind it is waited for by nobody; its failures are logged, and the VM stays listed.
  async #goFrom(
    vm: Vm,
    frozen: Promise<FrozenRecord>,
    { keepRunning }: FreezeOrder,
    timer: StageTimer,
    agent: GuestAgent | undefined,
  ): Promise<Snapshot | undefined> {
    const cause = currentCause();
    const attributes = { 'wrenn.sandbox.id': vm.sandboxId };
    if (keepRunning) {
      const goingOn = frozen.then((record) => this.#goOnFrom(vm, record, timer, agent));
      vm.operation = vm.goingOn = goingOn.catch(() => undefined);
      return goingOn;
    }
    const left = frozen.then((record) =>
      inOwnTrace('release frozen vm', attributes, [cause], () => this.#leaveFrozen(vm, record, agent)),
    );
    vm.operation = left.catch(() => undefined);
    await frozen;
    return undefined;
  }

  async #goOnFrom(vm: Vm, frozen: FrozenRecord, timer: StageTimer, agent: GuestAgent | undefined): Promise<Snapshot> {
    agent?.close('SANDBOX_PAUSED');
    const staged = await this.#stage(vm, frozen, timer, !agent);
    const { facts, order } = frozen;
    vm.state = { name: 'starting' };
    const { guest, accessToken } = facts;
    const spec = { ...guest, accessToken, kind: 'restore' as const, snapshotId: order.snapshotId };
    const caller = { signal: this.#lifeOf(vm), deadlineAtMs: Date.now() + goOnLimitMs };
    // A death from here on must not cost it either: the next life makes it go on from the same snapshot.
    await this.#boot(vm, spec, caller, timer, frozen);
    return staged;
  }

  async #leaveFrozen(vm: Vm, frozen: FrozenRecord, agent: GuestAgent | undefined): Promise<void> {
    vm.state = { name: 'frozen' };
    const stage = async () => {
      if (agent) await sleep(answerFirstMs);
      agent?.close('SANDBOX_PAUSED');
      return this.#stage(vm, frozen, new StageTimer(), !agent);
    };
    const staging = stage();
    this.#parts.snapshots.expect(frozen.order.snapshotId, staging);
    await staging;
    await this.#releaseFrozen(vm, frozen.facts.processes);
  }

  async #stage(vm: Vm, frozen: FrozenRecord, timer: StageTimer, isTakenUp: boolean): Promise<Snapshot> {
    const { log } = this.#parts;
    try {
      return await stageFrozen(this.#parts, frozen, { isTakenUp, closed: this.#lifeOf(vm), log, timer });
    } catch (error) {
      // With its life it ends as asked, and another may take it up.
      const level = this.#lifeOf(vm).aborted ? 'info' : 'error';
      log[level]({ err: error, sandbox: vm.sandboxId, ...frozen.order }, 'a frozen vm did not become a snapshot');
      vm.state = { name: 'dead', death: { reason: 'FREEZE_FAILED', message: messageOf(error) } };
      throw error;
    }
  }

  // Ends with this service or, when it is to be destroyed, with the VM.
  #lifeOf(vm: Vm): AbortSignal {
    return AbortSignal.any([this.#closed.signal, vm.giveUp.signal]);
  }

  async #releaseFrozen(vm: Vm, before: MachineProcesses): Promise<void> {
    const { journal, slots, disks, vmm } = this.#parts;
    const undo = new UndoStack();
    undo.push(() => journal.remove(vm.sandboxId));
    undo.push(() => allOf(slots.release(vm.sandboxId), disks.delete(vm.sandboxId), vmm.release(vm.sandboxId)));
    // Nothing of a slot may still be open. One that dies has no name any more by which it could be found.
    undo.push(() => vmm.awaitEnd(vm.sandboxId, before));
    await this.#release(vm, undo);
  }

  async #destroyNow(vm: Vm): Promise<void> {
    const { sandboxId } = vm;
    if (this.#vms.get(sandboxId) !== vm) return;
    const { journal, slots, disks, vmm, bulk, consoles, log } = this.#parts;
    if (isUp(vm.state)) vm.state.agent.close('VMM_DIED');
    vm.state = { name: 'stopping' };
    bulk.remove(sandboxId, 'VMM_DIED');
    consoles.remove(sandboxId);
    await failpoint('vm.destroy.begun');
    const undo = new UndoStack();
    undo.push(() => journal.remove(sandboxId));
    undo.push(() => failpoint('vm.destroy.released'));
    undo.push(() => allOf(slots.release(sandboxId), disks.delete(sandboxId)));
    undo.push(() => failpoint('vm.destroy.killed'));
    undo.push(() => vmm.release(sandboxId));
    await this.#release(vm, undo);
    await failpoint('vm.destroy.done');
    log.info({ sandbox: sandboxId }, 'vm destroyed');
  }

  // A peer may have been away when one was to be released; nothing else is asked for it here.
  async #releaseAgain(vm: Vm | undefined): Promise<void> {
    if (vm?.state.name !== 'dead' || vm.state.death.reason !== 'RELEASE_FAILED') return;
    try {
      await this.destroy(vm.sandboxId);
    } catch (cause) {
      const message = `what ${vm.sandboxId} held before is not released yet; it is tried again`;
      throw new WrennError('SERVICE_UNAVAILABLE', message, { cause });
    }
  }

  // What could not be released stays listed, so that the scheduler asks again.
  async #release(vm: Vm, undo: UndoStack): Promise<void> {
    try {
      await undo.undo();
      this.#vms.delete(vm.sandboxId);
    } catch (error) {
      this.#parts.log.error({ err: error, sandbox: vm.sandboxId }, 'vm not released');
      vm.state = { name: 'dead', death: { reason: 'RELEASE_FAILED', message: messageOf(error) } };
      throw error;
    }
  }

  #adoptOne(record: VmRecord): void {
    const { sandboxId, createdAtMs } = record;
    const { vmm, agents, log } = this.#parts;
    if (record.phase === 'starting') {
      log.warn({ sandbox: sandboxId }, 'vm of an earlier life was never ready');
      this.#discard(sandboxId);
      return;
    }
    const vm = newVm(sandboxId, new Date(createdAtMs));
    const { facts } = record;
    if (record.phase === 'frozen') {
      vm.state = { name: 'stopping' };
      this.#vms.set(sandboxId, vm);
      log.info({ sandbox: sandboxId, ...record.order }, 'vm frozen by an earlier life');
      this.#goFrom(vm, Promise.resolve(record), record.order, new StageTimer(), undefined).catch(() => undefined);
      return;
    }
    const machine = vmm.adopt(sandboxId, facts.processes);
    if (!machine) {
      log.warn({ sandbox: sandboxId }, 'vm of an earlier life is gone');
      this.#discard(sandboxId);
      return;
    }
    this.#vms.set(sandboxId, vm);
    const running = { machine, facts, agent: agents.dial(facts.guestAddress, facts.accessToken) };
    this.#watch(vm, running);
    if (record.phase === 'freezing') vm.operation = vm.goingOn = this.#thaw(vm, running);
    else this.#enterRunning(vm, running);
    log.info({ sandbox: sandboxId, pid: machine.processes.vmm.pid }, 'vm adopted');
  }

  // From a freeze that did not get as far as `frozen`, in this life or an earlier one. The guest's processes stand still
  // until it is done, so it is tried until it is, or the VM is over.
  async #thaw(vm: Vm, running: RunningVm): Promise<void> {
    const stand = { ...running, name: 'thawing' } as const;
    vm.state = stand;
    // It may have died while it was frozen, when nobody was to be told.
    void running.machine.ended.then((death) => this.#die(vm, running, death));
    const life = this.#lifeOf(vm);
    while (vm.state === stand && !life.aborted) {
      try {
        await goOn(this.#parts, running, vm.createdAt.getTime());
        if (vm.state === stand) this.#enterRunning(vm, running);
      } catch (error) {
        this.#parts.log.error({ err: error, sandbox: vm.sandboxId }, 'a half-frozen vm does not go on yet');
        await sleep(thawPauseMs, undefined, { signal: life }).catch(() => undefined); // Aborted: it is over.
      }
    }
  }

  #enterRunning(vm: Vm, running: RunningVm): void {
    vm.state = { ...running, name: 'running' };
    this.#parts.bulk.add(vm.sandboxId, running.facts.guestAddress, running.facts.accessToken);
    this.#parts.consoles.add(vm.sandboxId, running.machine);
  }

  #watch(vm: Vm, running: RunningVm): void {
    const { machine, agent } = running;
    const over = new AbortController();
    const watched = AbortSignal.any([this.#lifeOf(vm), over.signal]);
    const signs = {
      vmmAnswers: (limitMs: number) => machine.isAnswering(limitMs),
      agentAnswers: (limitMs: number) => agent.isAnswering(limitMs),
    };
    void machine.ended.then((death) => this.#die(vm, running, death)).finally(() => over.abort());
    const stuck = { reason: 'VMM_STUCK', message: 'neither QEMU nor the guest answers' } as const;
    void untraced(async () => {
      // What becomes of one that is stuck while it is frozen is for the freeze to say: it is watched on.
      while (vm.state.name !== 'dead' && (await untilStuck(signs, watched, this.#parts.watchdogTimes))) {
        this.#die(vm, running, stuck);
      }
    });
  }

  #die(vm: Vm, { machine, agent }: RunningVm, death: Death): void {
    if (!isUp(vm.state) || vm.state.machine !== machine) return;
    this.#parts.log.warn({ sandbox: vm.sandboxId, ...death }, 'vm died');
    this.#parts.died?.(death);
    agent.close('VMM_DIED');
    this.#parts.bulk.remove(vm.sandboxId, 'VMM_DIED');
    this.#parts.consoles.remove(vm.sandboxId);
    vm.state = { name: 'dead', death, machine };
  }
}

function newVm(sandboxId: SandboxId, createdAt: Date): Vm {
  return {
    sandboxId,
    createdAt,
    giveUp: new AbortController(),
    state: { name: 'starting' },
    operation: Promise.resolve(),
  };
}

// Not being frozen, and not over.
function isUp(state: VmState): state is Extract<VmState, RunningVm> {
  return state.name === 'running' || state.name === 'thawing';
}

function notHere(sandboxId: SandboxId): WrennError {
  return new WrennError('SANDBOX_NOT_FOUND', `this host has no VM for sandbox ${sandboxId}`);
}

function notRunning(sandboxId: SandboxId, { name }: VmState): WrennError {
  return new WrennError('SANDBOX_NOT_RUNNING', `sandbox ${sandboxId} is ${name}`, { meta: { state: name } });
}
