import { open } from 'node:fs/promises';

import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Lanes, RpcClient } from '@wrenn/kit/lanes';
import { type Machine, type Snapshot, SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { MachineFacts, OpenedSnapshot, Snapshots, StageRequest } from '../domain/snapshot.ts';

export class StoreSnapshots implements Snapshots {
  readonly #store: RpcClient<typeof SnapshotStoreService.method>;

  constructor(lanes: Lanes) {
    this.#store = lanes.client('control', SnapshotStoreService);
  }

  async stage(request: StageRequest, call: OutboundCall): Promise<Snapshot> {
    const { snapshotId, sandboxId, parentId = '', frozenDirectory, template } = request;
    const machine = { ...request.machine, memoryBytes: BigInt(request.machine.memoryBytes) };
    const wire = { snapshotId, sandboxId, parentId, frozenDirectory, machine, template };
    return present((await this.#store.stageSnapshot(wire, call)).snapshot);
  }

  async open(snapshotId: SnapshotId, diskId: SandboxId, call: OutboundCall): Promise<OpenedSnapshot> {
    const opened = await this.#store.openSnapshot({ snapshotId, diskId }, call);
    const snapshot = present(opened.snapshot);
    const { headerPath, vmstatePath, workingSetPath, runCount, disk } = opened;
    return {
      machine: factsOf(snapshot.machine),
      generation: snapshot.generation,
      // What a Full stores says nothing of what was changed last.
      changedBytes: snapshot.generation > 0 ? Number(snapshot.builds[0]?.memoryBytes ?? 0n) : 0,
      headerPath,
      memoryFiles: opened.memoryFiles,
      vmstatePath,
      workingSetPath,
      workingSetPages: await pagesOf(workingSetPath),
      diskPath: disk?.path ?? '',
      runCount,
    };
  }

  async get(snapshotId: SnapshotId, waitDurable: boolean, call: OutboundCall): Promise<Snapshot> {
    return present((await this.#store.getSnapshot({ snapshotId, waitDurable }, call)).snapshot);
  }

  async list(call: OutboundCall): Promise<Snapshot[]> {
    return (await this.#store.listSnapshots({}, call)).snapshots;
  }

  async delete(snapshotId: SnapshotId, call: OutboundCall): Promise<void> {
    await this.#store.deleteSnapshot({ snapshotId }, call);
  }
}

function present(snapshot: Snapshot | undefined): Snapshot {
  if (!snapshot) throw new WrennError('INTERNAL', 'the snapshot store answered without a snapshot');
  return snapshot;
}

function factsOf(machine: Machine | undefined): MachineFacts {
  if (!machine) throw new WrennError('INTERNAL', 'the snapshot store knows no machine of the snapshot');
  const { vmm, accelerator, cpuModel, kernel, vcpuCount, memoryBytes } = machine;
  return { vmm, accelerator, cpuModel, kernel, vcpuCount, memoryBytes: Number(memoryBytes) };
}

// How many pages a working set names: the number is the fourth field of its head. A hint: 0 when unreadable.
async function pagesOf(path: string): Promise<number> {
  if (path === '') return 0;
  try {
    await using file = await open(path);
    const head = Buffer.alloc(12);
    const { bytesRead } = await file.read(head, 0, 12, 0);
    return bytesRead === 12 ? head.readUInt32LE(8) : 0;
  } catch {
    return 0;
  }
}
