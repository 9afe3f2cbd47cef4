// Freezes a running VM into a snapshot. Until the journal says `frozen` the VM is to go on after any failure; from then
// on the frozen files are the VM, and whatever fails is done again until the snapshot is staged.
import { type CallDeadline, inMs, within } from '@wrenn/kit/deadlines';
import { failpoint } from '@wrenn/kit/failpoint';
import type { Log } from '@wrenn/kit/log';
import type { StageTimer } from '@wrenn/kit/stage-timer';
import { inSpan, setAttributes } from '@wrenn/kit/telemetry/span';
import type { Snapshot } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { BootParts } from './boot-vm.ts';
import type { BulkServer, FreezeOrder, FrozenRecord, RunningVm } from './vm.ts';
import { whileAway } from './while-away.ts';

const drainLimitMs = 2000;
const drainAnswerLimitMs = 4000;
const quiesceLimitMs = 2000;
const goOnLimitMs = 5000;
const stageLimitMs = 10_000;

// Files that are nearly there arrive whole; the rest is cut. The agent waits for those by URL, the bulk thread for the
// rest of those by gRPC. An agent that does not answer tells so when it is quiesced.
export async function drainVm(
  bulk: BulkServer,
  { agent, facts }: RunningVm,
  caller: CallDeadline,
  timer: StageTimer,
  log: Log,
): Promise<void> {
  const drain = () =>
    Promise.all([
      agent.drain(drainLimitMs, within(caller, drainAnswerLimitMs)),
      bulk.drain(facts.guest.sandboxId, drainLimitMs),
    ]);
  try {
    const [left] = await timer.time('drain', drain);
    setAttributes({ 'wrenn.transfers.cut': left });
  } catch (error) {
    log.warn({ err: error }, 'transfers not waited for');
  }
}

export async function freezeVm(
  parts: BootParts,
  { machine, agent, facts }: RunningVm,
  createdAtMs: number,
  order: FreezeOrder,
  caller: CallDeadline,
  timer: StageTimer,
): Promise<void> {
  const { sandboxId } = facts.guest;
  const record = { sandboxId, createdAtMs, facts };
  using freezing = await timer.time('prepare', async () => {
    await parts.journal.write({ ...record, phase: 'freezing' });
    await failpoint('vm.freeze.begun');
    return machine.readyFreeze();
  });
  await timer.time('quiesce', () => agent.quiesce(within(caller, quiesceLimitMs)));
  await failpoint('vm.freeze.quiesced');
  await freezing.carryOut(timer);
  await failpoint('vm.freeze.saved');
  await timer.time('journal', () => parts.journal.write({ ...record, phase: 'frozen', order }));
  await failpoint('vm.freeze.journalled');
}

// Undoes a freeze that failed, as far as it had come; may be done again.
export async function goOn(parts: BootParts, running: RunningVm, createdAtMs: number): Promise<void> {
  const { machine, agent, facts } = running;
  await machine.goOn();
  // Its processes stand still until it is initialised.
  await agent.init(facts.guest, inMs(goOnLimitMs));
  await parts.journal.write({ sandboxId: facts.guest.sandboxId, createdAtMs, phase: 'running', facts });
}

export interface Staging {
  // An earlier life may have come as far as making it go on: what it made then stands on the snapshot.
  readonly isTakenUp: boolean;
  readonly closed: AbortSignal;
  readonly log: Log;
  readonly timer: StageTimer;
}

// From `frozen` to staged: idempotent, so that another life can take it up. A store that is away or full is waited
// for: what is given up here is lost.
export async function stageFrozen(
  parts: BootParts,
  { facts, order }: FrozenRecord,
  { isTakenUp, closed, log, timer }: Staging,
): Promise<Snapshot> {
  const { sandboxId, template } = facts.guest;
  // What it left is final: it is stopped.
  await inSpan('strike', {}, async () => parts.vmm.strike(facts.processes));
  await failpoint('vm.freeze.killed');
  if (isTakenUp) await timer.time('kill', () => parts.vmm.kill(sandboxId));
  // A pager adds its list of pages as it ends.
  else if (facts.processes.pager) await timer.time('kill', () => parts.vmm.awaitEnd(sandboxId, facts.processes));
  const { vcpuCount, memoryBytes } = facts;
  const request = {
    snapshotId: order.snapshotId,
    sandboxId,
    parentId: facts.snapshotId,
    frozenDirectory: parts.vmm.frozenDirectory(sandboxId),
    machine: { ...(await parts.vmm.facts()), vcpuCount, memoryBytes },
    template,
  };
  const ask = async () => {
    const staged = await parts.snapshots.stage(request, inMs(stageLimitMs, closed));
    const { generation, ownBytes } = staged;
    setAttributes({
      'wrenn.snapshot.generation': generation,
      'wrenn.snapshot.type': generation === 0 ? 'full' : 'diff',
      'wrenn.snapshot.staged_bytes': Number(ownBytes),
    });
    if (isTakenUp) {
      await parts.vmm.release(sandboxId);
      await parts.disks.delete(sandboxId);
    }
    return staged;
  };
  const staged = await timer.time('stage', () => whileAway({ ask, signal: closed, log }));
  await failpoint('vm.freeze.staged');
  return staged;
}
