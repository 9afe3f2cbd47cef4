// Makes one VM: journal, network and disk side by side, VMM, agent. It boots, or goes on where a snapshot was
// taken. Each resource's release is pushed before it is asked for, since a call that fails may still have been
// carried out.
import { type CallDeadline, acrossRestart, within } from '@wrenn/kit/deadlines';
import { WrennError, hasReason, messageOf } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import type { StageTimer } from '@wrenn/kit/stage-timer';
import { addEvent, setAttributes } from '@wrenn/kit/telemetry/span';
import type { UndoStack } from '@wrenn/kit/undo-stack';

import type { GuestAgent } from './guest-agent.ts';
import { cheapestSource } from './memory-source.ts';
import { type OpenedSnapshot, type Snapshots, requireCompatible } from './snapshot.ts';
import type {
  AgentDialer,
  Death,
  Disks,
  Journal,
  Launch,
  Machine,
  MachineProcesses,
  RunningVm,
  Slot,
  Slots,
  VmRecord,
  VmSpec,
  Vmm,
} from './vm.ts';
import { whileAway } from './while-away.ts';

export interface BootParts {
  readonly slots: Slots;
  readonly disks: Disks;
  readonly snapshots: Snapshots;
  readonly vmm: Vmm;
  readonly agents: AgentDialer;
  readonly journal: Journal;
  readonly newAccessToken: () => string;
  readonly log: Log;
}

// A call of its own, to carry the rest.
interface Boot {
  readonly parts: BootParts;
  readonly spec: VmSpec;
  readonly caller: CallDeadline;
  readonly timer: StageTimer;
  // It was frozen to go on: it waits for peers that are away, and for the end of what it was.
  readonly before: MachineProcesses | undefined;
}

const acquireLimitMs = 30_000;
const bootLimitMs = 40_000;
const initLimitMs = 10_000;

// `begun` is what the journal says of it until it runs.
export async function bootVm(
  parts: BootParts,
  spec: VmSpec,
  begun: VmRecord,
  caller: CallDeadline,
  undo: UndoStack,
  timer: StageTimer,
): Promise<RunningVm> {
  const { sandboxId } = spec;
  const before = begun.phase === 'frozen' ? begun.facts.processes : undefined;
  const boot: Boot = { parts, spec, caller, timer, before };
  undo.push(() => parts.journal.remove(sandboxId));
  if (!before) await timer.time('journal', () => parts.journal.write(begun));
  await failpoint('vm.create.journalled');

  undo.push(() => parts.slots.release(sandboxId));
  undo.push(() => parts.disks.delete(sandboxId));
  const [slot, launch] = await both(
    timer.time('network', async () => {
      const leased = await parts.slots.lease(sandboxId, acrossRestart(within(caller, acquireLimitMs)));
      setAttributes({ 'wrenn.slot': leased.namespace });
      await failpoint('vm.create.leased');
      return leased;
    }),
    timer.time('disk', async () => {
      const made = await acquireDisk(boot);
      await failpoint('vm.create.disk-made');
      return made;
    }),
  );
  await failpoint('vm.create.acquired');

  const { machine, agent, accessToken } = await startGuest(boot, { ...launch, slot }, slot, undo);
  await failpoint('vm.create.initialised');
  const { template, env, defaultUser } = spec;
  const facts = {
    guest: { sandboxId, template, env, defaultUser },
    vcpuCount: launch.vcpuCount,
    memoryBytes: launch.memoryBytes,
    ...(spec.kind === 'restore' && { snapshotId: spec.snapshotId }),
    guestAddress: slot.guestAddress,
    accessToken,
    processes: machine.processes,
  };
  const running: VmRecord = { sandboxId, createdAtMs: begun.createdAtMs, phase: 'running', facts };
  await timer.time('journal', () => parts.journal.write(running));
  await failpoint('vm.create.done');
  return { machine, agent, facts };
}

type Acquired = Omit<Launch, 'slot'>;

async function acquireDisk({ parts, spec, caller, before }: Boot): Promise<Acquired> {
  const { sandboxId } = spec;
  const call = acrossRestart(within(caller, acquireLimitMs));
  if (spec.kind === 'boot') {
    const { vcpuCount, memoryBytes } = spec;
    setAttributes({ 'wrenn.memory.bytes': memoryBytes });
    return { sandboxId, vcpuCount, memoryBytes, diskPath: (await parts.disks.create(spec, call)).path };
  }
  const open = () => parts.snapshots.open(spec.snapshotId, sandboxId, call);
  const snapshot = await (before ? openPatiently(parts, sandboxId, open, caller.signal) : open());
  requireCompatible(snapshot.machine, await parts.vmm.facts());
  const { vcpuCount, memoryBytes } = snapshot.machine;
  const memorySource = spec.memorySource ?? cheapestSource(snapshot);
  setAttributes({
    'wrenn.snapshot.id': spec.snapshotId,
    'wrenn.snapshot.generation': snapshot.generation,
    'wrenn.snapshot.changed_bytes': snapshot.changedBytes,
    'wrenn.snapshot.runs': snapshot.runCount,
    'wrenn.memory.bytes': memoryBytes,
    'wrenn.memory.source': memorySource,
  });
  return { sandboxId, vcpuCount, memoryBytes, diskPath: snapshot.diskPath, restore: { snapshot, memorySource } };
}

// A call that was cut off may have made the disk.
function openPatiently(
  parts: BootParts,
  sandboxId: SandboxId,
  open: () => Promise<OpenedSnapshot>,
  signal: AbortSignal,
) {
  const ask = async (attempt: number) => {
    if (attempt > 0) await parts.disks.delete(sandboxId);
    return open();
  };
  return whileAway({ ask, signal, log: parts.log });
}

async function startGuest(
  { parts, spec, caller, timer, before }: Boot,
  launch: Launch,
  slot: Slot,
  undo: UndoStack,
): Promise<{ machine: Machine; agent: GuestAgent; accessToken: string }> {
  const { sandboxId } = spec;
  const accessToken = spec.accessToken ?? parts.newAccessToken();
  const agent = parts.agents.dial(slot.guestAddress, accessToken);
  undo.push(() => agent.close('VMM_DIED'));
  undo.push(() => parts.vmm.release(sandboxId));
  if (before) await timer.time('kill', () => parts.vmm.awaitEnd(sandboxId, before));
  const start = async () => {
    const machine = await timer.time('vmm', () => parts.vmm.start(launch, caller.signal));
    await failpoint('vm.create.started');
    if (launch.restore) await timer.time('go on', () => goOnAtFirst(machine));
    await timer.time('boot', () => awaitAgent(machine, (signal) => agent.awaitListening(signal), caller));
    return machine;
  };
  const machine = await withOneRetry(start, () => parts.vmm.release(sandboxId));
  await failpoint('vm.create.booted');
  await timer.time('init', () => agent.init(spec, within(caller, initLimitMs)));
  return { machine, agent, accessToken };
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
    addEvent('retry', { 'error.type': error.reason });
    await release();
    return start();
  }
}

async function goOnAtFirst(machine: Machine): Promise<void> {
  try {
    await machine.goOn();
  } catch (error) {
    throw hasReason(error, 'VMM_DIED', 'VMM_STUCK') ? stoppedStarting(error) : error;
  }
}

function stoppedStarting(how: Death | WrennError): WrennError {
  return new WrennError('VMM_START_FAILED', `the guest stopped while it started: ${how.message}`, { cause: how });
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
    if (death) throw stoppedStarting(death);
  } catch (error) {
    if (caller.signal.aborted)
      throw new WrennError('CANCELLED', 'the caller left while the guest started', { cause: error });
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
