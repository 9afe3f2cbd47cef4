// Freezes a running VM into a snapshot. Until the journal says `frozen` any failure lets the VM go on; from then
// on the frozen files are the VM, and whatever fails is done again until the snapshot is staged.
import { type CallDeadline, inMs, within } from '@wrenn/kit/deadlines';
import { failpoint } from '@wrenn/kit/failpoint';
import type { Log } from '@wrenn/kit/log';
import type { StageTimer } from '@wrenn/kit/stage-timer';
import { setAttributes } from '@wrenn/kit/telemetry/span';

import { allOf } from './all-of.ts';
import type { BootParts } from './boot-vm.ts';
import type { FreezeOrder, FrozenRecord, RunningVm } from './vm.ts';
import { whileAway } from './while-away.ts';

const quiesceLimitMs = 2000;
const goOnLimitMs = 5000;
const stageLimitMs = 10_000;

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
  try {
    await parts.journal.write({ ...record, phase: 'freezing' });
    await failpoint('vm.freeze.begun');
    await timer.time('quiesce', () => agent.quiesce(within(caller, quiesceLimitMs)));
    await failpoint('vm.freeze.quiesced');
    await machine.freeze(timer);
    await failpoint('vm.freeze.saved');
    await parts.journal.write({ ...record, phase: 'frozen', order });
  } catch (error) {
    await goOn(parts, { machine, agent, facts }, createdAtMs);
    throw error;
  }
  await failpoint('vm.freeze.journalled');
}

// Undoes a freeze that did not get as far as `frozen`.
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
): Promise<void> {
  const { sandboxId, template } = facts.guest;
  const killing = timer.time('kill', () => parts.vmm.kill(sandboxId)).then(() => failpoint('vm.freeze.killed'));
  // What a VMM that stands still leaves is final, and its end takes a while; a pager adds its list of pages as it ends.
  if (facts.processes.pager || isTakenUp) await killing;
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
    const { generation, ownBytes } = await parts.snapshots.stage(request, inMs(stageLimitMs, closed));
    setAttributes({
      'wrenn.snapshot.generation': generation,
      'wrenn.snapshot.type': generation === 0 ? 'full' : 'diff',
      'wrenn.snapshot.staged_bytes': Number(ownBytes),
    });
    if (!isTakenUp) return;
    await parts.vmm.release(sandboxId);
    await parts.disks.delete(sandboxId);
  };
  await allOf(
    killing,
    timer.time('stage', () => whileAway({ ask, signal: closed, log })),
  );
  await failpoint('vm.freeze.staged');
}
