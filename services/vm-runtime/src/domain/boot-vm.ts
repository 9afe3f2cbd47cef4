// Makes one VM: journal, network and disk side by side, VMM, agent. Each resource's release is pushed
// before it is asked for, since a call that fails may still have been carried out.
import { type CallDeadline, within } from '@wrenn/kit/deadlines';
import { WrennError, hasReason, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { UndoStack } from '@wrenn/kit/undo-stack';

import type { StageTimer } from './stage-timer.ts';
import type { AgentDialer, Disks, Journal, Launch, Machine, RunningVm, Slots, VmSpec, Vmm } from './vm.ts';

export interface BootParts {
  readonly slots: Slots;
  readonly disks: Disks;
  readonly vmm: Vmm;
  readonly agents: AgentDialer;
  readonly journal: Journal;
  readonly newAccessToken: () => string;
}

const acquireLimitMs = 30_000;
const bootLimitMs = 40_000;
const initLimitMs = 10_000;

export async function bootVm(
  parts: BootParts,
  spec: VmSpec,
  createdAtMs: number,
  caller: CallDeadline,
  undo: UndoStack,
  timer: StageTimer,
): Promise<RunningVm> {
  const { sandboxId } = spec;
  undo.push(() => parts.journal.remove(sandboxId));
  await parts.journal.write({ sandboxId, createdAtMs, phase: 'starting' });
  await failpoint('vm.create.journalled');

  undo.push(() => parts.slots.release(sandboxId));
  undo.push(() => parts.disks.delete(sandboxId));
  const [slot, disk] = await both(
    timer.time('network', async () => {
      const leased = await parts.slots.lease(sandboxId, within(caller, acquireLimitMs));
      await failpoint('vm.create.leased');
      return leased;
    }),
    timer.time('disk', async () => {
      const made = await parts.disks.create(spec, within(caller, acquireLimitMs));
      await failpoint('vm.create.disk-made');
      return made;
    }),
  );
  await failpoint('vm.create.acquired');

  const accessToken = parts.newAccessToken();
  const agent = parts.agents.dial(slot.guestAddress, accessToken);
  undo.push(() => agent.close());
  undo.push(() => parts.vmm.release(sandboxId));
  const { vcpuCount, memoryBytes } = spec;
  const launch: Launch = { sandboxId, vcpuCount, memoryBytes, slot, diskPath: disk.path };
  const start = async () => {
    const machine = await timer.time('vmm', () => parts.vmm.start(launch, caller.signal));
    await failpoint('vm.create.started');
    await timer.time('boot', () => awaitAgent(machine, (signal) => agent.awaitListening(signal), caller));
    return machine;
  };
  const machine = await withOneRetry(start, () => parts.vmm.release(sandboxId));
  await failpoint('vm.create.booted');

  await timer.time('init', () => agent.init(spec, within(caller, initLimitMs)));
  await failpoint('vm.create.initialised');
  const { guestAddress } = slot;
  const known = { guestAddress, accessToken };
  await parts.journal.write({ sandboxId, createdAtMs, phase: 'running', vmm: machine.process, ...known });
  await failpoint('vm.create.done');
  return { machine, agent, ...known };
}

// Both results, or the first failure once both have come to an end: nothing goes on behind an undo.
async function both<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'rejected') throw a.reason;
  if (b.status === 'rejected') throw b.reason;
  return [a.value, b.value];
}

// About one boot in a few hundred never gets ready on a busy host, whatever the kernel arguments.
async function withOneRetry(start: () => Promise<Machine>, release: () => Promise<void>): Promise<Machine> {
  try {
    return await start();
  } catch (error) {
    if (!hasReason(error, 'GUEST_NOT_READY')) throw error;
    await release();
    return start();
  }
}

async function awaitAgent(
  machine: Machine,
  awaitListening: (signal: AbortSignal) => Promise<void>,
  caller: CallDeadline,
): Promise<void> {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), bootLimitMs);
  const signal = AbortSignal.any([over.signal, caller.signal]);
  try {
    const death = await Promise.race([awaitListening(signal), machine.ended]);
    if (death) throw new WrennError('VMM_START_FAILED', `the guest stopped while it booted: ${death.message}`);
  } catch (error) {
    if (caller.signal.aborted)
      throw new WrennError('CANCELLED', 'the caller left while the guest booted', { cause: error });
    if (!over.signal.aborted) throw error;
    const console = Buffer.from(await lastWords(machine))
      .toString('latin1')
      .slice(-500);
    throw new WrennError('GUEST_NOT_READY', `the guest agent did not answer within ${bootLimitMs} ms`, {
      cause: error,
      meta: { limit_ms: String(bootLimitMs), console: JSON.stringify(console) },
    });
  } finally {
    clearTimeout(timer);
    over.abort();
  }
}

// A VMM that stands still gives none: that must not hide what it is asked for.
async function lastWords(machine: Machine): Promise<Uint8Array> {
  try {
    return await machine.readConsole();
  } catch (error) {
    return Buffer.from(`no console: ${messageOf(error)}`);
  }
}
