// One VM of this host, from before its first resource until nothing of it is left. One lifecycle operation at a time: a
// destroy makes a boot give up, waits for it, and then releases whatever is there.
import { setTimeout as sleep } from 'node:timers/promises';

import type { CallDeadline } from '@wrenn/kit/deadlines';
import { WrennError, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import { type Stage, StageTimer } from '@wrenn/kit/stage-timer';
import { typeOf } from '@wrenn/kit/telemetry/failures';
import { addEvent, currentCause, inOwnTrace, setAttributes, untraced } from '@wrenn/kit/telemetry/span';
import { UndoStack } from '@wrenn/kit/undo-stack';
import type { Snapshot } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import { allOf } from './all-of.ts';
import { type BootParts, bootVm } from './boot-vm.ts';
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

export interface HostedVmParts extends BootParts {
  readonly snapshots: ComingSnapshots;
  readonly bulk: BulkServer;
  readonly consoles: Consoles;
  readonly died?: (death: Death) => void;
  readonly watchdogTimes?: WatchdogTimes;
}

// What a VM does by itself ends with its host, which is told when nothing is left of the VM.
export interface Host {
  readonly closed: AbortSignal;
  readonly released: () => void;
}

// What a freeze has led to, and where the time went. That of a paused VM is still to come to the store.
export interface Taken {
  readonly snapshot: Snapshot | undefined;
  readonly stages: Stage[];
}

// A restore that nobody waits for: of a VM that was frozen to go on.
const goOnLimitMs = 60_000;
// How long the caller of a freeze that failed waits for its VM to go on.
const thawAnswerLimitMs = 5000;
const thawPauseMs = 1000;
// What a pause still has to do elsewhere before its caller is answered takes less. Until then it has the processors to
// itself, of which the kernel takes its time to end a VMM.
const answerFirstMs = 20;

export class HostedVm {
  readonly sandboxId: SandboxId;
  readonly createdAt: Date;
  readonly #parts: HostedVmParts;
  readonly #host: Host;
  readonly #giveUp = new AbortController();
  // Ends with its host or, when it is to be destroyed, with the VM.
  readonly #life: AbortSignal;
  #state: VmState = { name: 'starting' };
  #operation: Promise<unknown> = Promise.resolve();
  // Settles when one that was frozen to go on, or that could not be frozen, does go on.
  #goingOn: Promise<unknown> | undefined;
  #isReleased = false;

  constructor(sandboxId: SandboxId, createdAt: Date, parts: HostedVmParts, host: Host) {
    this.sandboxId = sandboxId;
    this.createdAt = createdAt;
    this.#parts = parts;
    this.#host = host;
    this.#life = AbortSignal.any([host.closed, this.#giveUp.signal]);
  }

  get state(): VmState {
    return this.#state;
  }

  // For a call on it: one that is being frozen to go on, or thawed, has it wait for that. One that is being paused
  // refuses it as something not begun, which may be asked again once it is resumed. Errors: those of `running`.
  async serving(): Promise<RunningVm> {
    await this.#goingOn;
    return this.running();
  }

  // Errors: SANDBOX_NOT_RUNNING, VMM_DIED; SANDBOX_NOT_FOUND once nothing of it is left.
  running(): RunningVm {
    if (this.#isReleased) throw notHere(this.sandboxId);
    const state = this.#state;
    if (state.name === 'running') return state;
    if (state.name === 'dead') throw new WrennError('VMM_DIED', state.death.message);
    throw this.#notRunning();
  }

  async boot(spec: VmSpec, caller: CallDeadline, timer: StageTimer): Promise<void> {
    const signal = AbortSignal.any([caller.signal, this.#giveUp.signal]);
    const { sandboxId, createdAt } = this;
    const begun: VmRecord = { sandboxId, createdAtMs: createdAt.getTime(), phase: 'starting' };
    const booting = this.#boot(spec, begun, { ...caller, signal }, timer);
    this.#operation = booting.catch(() => undefined);
    return booting;
  }

  // Returns once it is frozen or, to keep it running, goes on from its snapshot; a paused VM becomes one, and what it
  // held is released, behind that. After an error before it is frozen it goes on: mostly before this throws, and as
  // soon as it can where it stands still.
  async snapshot(order: FreezeOrder, caller: CallDeadline, timer: StageTimer): Promise<Taken> {
    const state = this.#state;
    if (state.name !== 'running') {
      this.running();
      throw this.#notRunning();
    }
    this.#state = { ...state, name: 'freezing' };
    setAttributes({ 'wrenn.snapshot.id': order.snapshotId, 'wrenn.snapshot.keeps_running': order.keepRunning });
    const frozen = this.#freeze(state, order, caller, timer);
    const snapshot = await this.#goFrom(frozen, order, timer, state.agent);
    this.#parts.log.info({ sandbox: this.sandboxId, ...order, stages: timer.stages }, 'vm frozen');
    return { snapshot, stages: timer.stages };
  }

  // Waits for what is being done to one that was frozen to go on, and throws unless it runs then.
  async requireGoingOn(): Promise<void> {
    await this.#operation;
    this.running();
  }

  async destroy(): Promise<void> {
    this.#giveUp.abort();
    const destruction = this.#operation.then(() => this.#destroyNow());
    this.#operation = destruction.catch(() => undefined);
    return destruction;
  }

  // For a new one of the same sandbox: waits until what this one held is released, and asks for it again where a peer
  // was away, since nothing else here would. Errors: SERVICE_UNAVAILABLE.
  async makeRoom(): Promise<void> {
    const { name } = this.#state;
    if (name === 'frozen' || name === 'stopping') await this.#operation;
    if (this.#state.name !== 'dead' || this.#state.death.reason !== 'RELEASE_FAILED') return;
    try {
      await this.destroy();
    } catch (cause) {
      const message = `what ${this.sandboxId} held before is not released yet; it is tried again`;
      throw new WrennError('SERVICE_UNAVAILABLE', message, { cause });
    }
  }

  // Goes on with one of an earlier life of this service. False: it is gone, and to be destroyed.
  takeUp(record: Exclude<VmRecord, { phase: 'starting' }>): boolean {
    const { vmm, agents, log } = this.#parts;
    const { facts } = record;
    if (record.phase === 'frozen') {
      this.#state = { name: 'stopping' };
      log.info({ sandbox: this.sandboxId, ...record.order }, 'vm frozen by an earlier life');
      this.#goFrom(Promise.resolve(record), record.order, new StageTimer(), undefined).catch(() => undefined);
      return true;
    }
    const machine = vmm.adopt(this.sandboxId, facts.processes);
    if (!machine) return false;
    const running = { machine, facts, agent: agents.dial(facts.guestAddress, facts.accessToken) };
    this.#watch(running);
    if (record.phase === 'freezing') this.#operation = this.#goingOn = this.#thaw(running);
    else this.#enterRunning(running);
    log.info({ sandbox: this.sandboxId, pid: machine.processes.vmm.pid }, 'vm adopted');
    return true;
  }

  // Of the connections alone: it runs on.
  disconnect(): void {
    if (isUp(this.#state)) this.#state.agent.close('VMM_DIED');
  }

  async #boot(spec: VmSpec, begun: VmRecord, caller: CallDeadline, timer: StageTimer): Promise<void> {
    const undo = new UndoStack();
    try {
      const running = await bootVm(this.#parts, spec, begun, caller, undo, timer);
      undo.commit();
      this.#enterRunning(running);
      this.#watch(running);
    } catch (error) {
      this.#parts.log.warn({ err: error, sandbox: this.sandboxId }, 'vm not made');
      await this.#release(undo);
      throw error;
    }
  }

  async #freeze(
    running: RunningVm,
    order: FreezeOrder,
    caller: CallDeadline,
    timer: StageTimer,
  ): Promise<FrozenRecord> {
    const { sandboxId } = this;
    const createdAtMs = this.createdAt.getTime();
    await drainVm(this.#parts.bulk, running, caller, timer, this.#parts.log);
    this.#parts.bulk.remove(sandboxId, 'SANDBOX_PAUSED');
    this.#parts.consoles.remove(sandboxId);
    try {
      await freezeVm(this.#parts, running, createdAtMs, order, caller, timer);
    } catch (error) {
      this.#parts.log.warn({ err: error, sandbox: sandboxId }, 'vm not frozen; it goes on');
      addEvent('vm goes on', { 'error.type': typeOf(error) });
      const thawed = this.#thaw(running);
      if (!this.#giveUp.signal.aborted) this.#operation = this.#goingOn = thawed;
      await Promise.race([thawed, sleep(thawAnswerLimitMs, undefined, { ref: false })]);
      throw error;
    }
    return { sandboxId, createdAtMs, phase: 'frozen', facts: running.facts, order };
  }

  // From `frozen` on: also what another life of this service began, of whose agent nobody holds anything any more. A
  // pause is over then, and what comes behind it is waited for by nobody; its failures are logged, and the VM stays listed.
  async #goFrom(
    frozen: Promise<FrozenRecord>,
    { keepRunning }: FreezeOrder,
    timer: StageTimer,
    agent: GuestAgent | undefined,
  ): Promise<Snapshot | undefined> {
    if (keepRunning) {
      const goingOn = frozen.then((record) => this.#goOnFrom(record, timer, agent));
      this.#operation = this.#goingOn = goingOn.catch(() => undefined);
      return goingOn;
    }
    const cause = currentCause();
    const attributes = { 'wrenn.sandbox.id': this.sandboxId };
    const left = frozen.then((record) =>
      inOwnTrace('release frozen vm', attributes, [cause], () => this.#leaveFrozen(record, agent)),
    );
    this.#operation = left.catch(() => undefined);
    await frozen;
    return undefined;
  }

  async #goOnFrom(frozen: FrozenRecord, timer: StageTimer, agent: GuestAgent | undefined): Promise<Snapshot> {
    agent?.close('SANDBOX_PAUSED');
    const staged = await this.#stage(frozen, timer, !agent);
    const { facts, order } = frozen;
    this.#state = { name: 'starting' };
    const { guest, accessToken } = facts;
    const spec = { ...guest, accessToken, kind: 'restore' as const, snapshotId: order.snapshotId };
    const caller = { signal: this.#life, deadlineAtMs: Date.now() + goOnLimitMs };
    // A death from here on must not cost it either: the next life makes it go on from the same snapshot.
    await this.#boot(spec, frozen, caller, timer);
    return staged;
  }

  async #leaveFrozen(frozen: FrozenRecord, agent: GuestAgent | undefined): Promise<void> {
    this.#state = { name: 'frozen' };
    const stage = async () => {
      if (agent) await sleep(answerFirstMs);
      agent?.close('SANDBOX_PAUSED');
      return this.#stage(frozen, new StageTimer(), !agent);
    };
    const staging = stage();
    this.#parts.snapshots.expect(frozen.order.snapshotId, staging);
    await staging;
    await this.#releaseFrozen(frozen.facts.processes);
  }

  async #stage(frozen: FrozenRecord, timer: StageTimer, isTakenUp: boolean): Promise<Snapshot> {
    const { log } = this.#parts;
    try {
      return await stageFrozen(this.#parts, frozen, { isTakenUp, closed: this.#life, log, timer });
    } catch (error) {
      // With its life it ends as asked, and another may take it up.
      const level = this.#life.aborted ? 'info' : 'error';
      log[level]({ err: error, sandbox: this.sandboxId, ...frozen.order }, 'a frozen vm did not become a snapshot');
      this.#state = { name: 'dead', death: { reason: 'FREEZE_FAILED', message: messageOf(error) } };
      throw error;
    }
  }

  // From a freeze that did not get as far as `frozen`, in this life or an earlier one. The guest's processes stand still
  // until it is done, so it is tried until it is, or the VM is over.
  async #thaw(running: RunningVm): Promise<void> {
    const stand = { ...running, name: 'thawing' } as const;
    this.#state = stand;
    const stands = () => this.#state === stand;
    // It may have died while it was frozen, when nobody was to be told.
    void running.machine.ended.then((death) => this.#die(running, death));
    while (stands() && !this.#life.aborted) {
      try {
        await goOn(this.#parts, running, this.createdAt.getTime());
        if (stands()) this.#enterRunning(running);
      } catch (error) {
        this.#parts.log.error({ err: error, sandbox: this.sandboxId }, 'a half-frozen vm does not go on yet');
        await sleep(thawPauseMs, undefined, { signal: this.#life }).catch(() => undefined); // Aborted: it is over.
      }
    }
  }

  #enterRunning(running: RunningVm): void {
    this.#state = { ...running, name: 'running' };
    this.#parts.bulk.add(this.sandboxId, running.facts.guestAddress, running.facts.accessToken);
    this.#parts.consoles.add(this.sandboxId, running.machine);
  }

  #watch(running: RunningVm): void {
    const { machine, agent } = running;
    const over = new AbortController();
    const watched = AbortSignal.any([this.#life, over.signal]);
    const signs = {
      vmmAnswers: (limitMs: number) => machine.isAnswering(limitMs),
      agentAnswers: (limitMs: number) => agent.isAnswering(limitMs),
    };
    void machine.ended.then((death) => this.#die(running, death)).finally(() => over.abort());
    const stuck = { reason: 'VMM_STUCK', message: 'neither QEMU nor the guest answers' } as const;
    void untraced(async () => {
      // What becomes of one that is stuck while it is frozen is for the freeze to say: it is watched on.
      while (this.#state.name !== 'dead' && (await untilStuck(signs, watched, this.#parts.watchdogTimes))) {
        this.#die(running, stuck);
      }
    });
  }

  #die({ machine, agent }: RunningVm, death: Death): void {
    if (!isUp(this.#state) || this.#state.machine !== machine) return;
    this.#parts.log.warn({ sandbox: this.sandboxId, ...death }, 'vm died');
    this.#parts.died?.(death);
    agent.close('VMM_DIED');
    this.#parts.bulk.remove(this.sandboxId, 'VMM_DIED');
    this.#parts.consoles.remove(this.sandboxId);
    this.#state = { name: 'dead', death, machine };
  }

  async #releaseFrozen(before: MachineProcesses): Promise<void> {
    const { sandboxId } = this;
    const { journal, slots, disks, vmm } = this.#parts;
    const undo = new UndoStack();
    undo.push(() => journal.remove(sandboxId));
    undo.push(() => allOf(slots.release(sandboxId), disks.delete(sandboxId), vmm.release(sandboxId)));
    // Nothing of a slot may still be open. One that dies has no name any more by which it could be found.
    undo.push(() => vmm.awaitEnd(sandboxId, before));
    await this.#release(undo);
  }

  async #destroyNow(): Promise<void> {
    if (this.#isReleased) return;
    const { sandboxId } = this;
    const { journal, slots, disks, vmm, bulk, consoles, log } = this.#parts;
    this.disconnect();
    this.#state = { name: 'stopping' };
    bulk.remove(sandboxId, 'VMM_DIED');
    consoles.remove(sandboxId);
    await failpoint('vm.destroy.begun');
    const undo = new UndoStack();
    undo.push(() => journal.remove(sandboxId));
    undo.push(() => failpoint('vm.destroy.released'));
    undo.push(() => allOf(slots.release(sandboxId), disks.delete(sandboxId)));
    undo.push(() => failpoint('vm.destroy.killed'));
    undo.push(() => vmm.release(sandboxId));
    await this.#release(undo);
    await failpoint('vm.destroy.done');
    log.info({ sandbox: sandboxId }, 'vm destroyed');
  }

  // What could not be released stays listed, so that the scheduler asks again.
  async #release(undo: UndoStack): Promise<void> {
    try {
      await undo.undo();
      this.#isReleased = true;
      this.#host.released();
    } catch (error) {
      this.#parts.log.error({ err: error, sandbox: this.sandboxId }, 'vm not released');
      this.#state = { name: 'dead', death: { reason: 'RELEASE_FAILED', message: messageOf(error) } };
      throw error;
    }
  }

  #notRunning(): WrennError {
    const { name } = this.#state;
    const message = `sandbox ${this.sandboxId} is ${name}`;
    return new WrennError('SANDBOX_NOT_RUNNING', message, { meta: { state: name } });
  }
}

export function notHere(sandboxId: SandboxId): WrennError {
  return new WrennError('SANDBOX_NOT_FOUND', `this host has no VM for sandbox ${sandboxId}`);
}

// Not being frozen, and not over.
function isUp(state: VmState): state is Extract<VmState, RunningVm> {
  return state.name === 'running' || state.name === 'thawing';
}
