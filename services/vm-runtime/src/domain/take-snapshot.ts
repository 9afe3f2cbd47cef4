import { type CallDeadline, within } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import { StageTimer } from '@wrenn/kit/stage-timer';

import type { Taken } from './hosted-vm.ts';
import type { Snapshots } from './snapshot.ts';
import type { FreezeOrder } from './vm.ts';
import type { VmTable } from './vm-table.ts';

const askLimitMs = 5000;

// Asked for twice, a snapshot is made once: the second call finds it, and waits at most for the VM to go on.
export async function takeSnapshot(
  vms: VmTable,
  snapshots: Snapshots,
  sandboxId: SandboxId,
  order: FreezeOrder,
  call: CallDeadline,
): Promise<Taken> {
  const timer = new StageTimer();
  const known = await timer.time('look up', () => find(snapshots, sandboxId, order, call));
  if (!known) return vms.snapshot(sandboxId, order, call, timer);
  if (order.keepRunning) await vms.requireGoingOn(sandboxId);
  return { snapshot: known, stages: [] };
}

async function find(snapshots: Snapshots, sandboxId: SandboxId, { snapshotId }: FreezeOrder, call: CallDeadline) {
  try {
    const found = await snapshots.get(snapshotId, false, within(call, askLimitMs));
    if (found.sandboxId === sandboxId) return found;
  } catch (error) {
    if (hasReason(error, 'SNAPSHOT_NOT_FOUND')) return undefined;
    throw error;
  }
  throw new WrennError('SNAPSHOT_EXISTS', `${snapshotId} is a snapshot of another sandbox`);
}
