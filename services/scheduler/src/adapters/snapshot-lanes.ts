// The snapshots of all hosts, over the same control lanes as their VMs.
import type { Snapshot as SnapshotMessage } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { type SnapshotId, isSnapshotId } from '@wrenn/kit/ids';

import type { HostSnapshots } from '../domain/ports.ts';
import type { HostSnapshot } from '../domain/snapshot.ts';
import type { HostLanes } from './host-lanes.ts';

export class SnapshotLanes implements HostSnapshots {
  readonly #lanes: HostLanes;

  constructor(lanes: HostLanes) {
    this.#lanes = lanes;
  }

  async get(
    address: string,
    id: SnapshotId,
    wanted: { readonly isDurable: boolean },
    call: OutboundCall,
  ): Promise<HostSnapshot> {
    const request = { snapshotId: id, waitDurable: wanted.isDurable };
    const { snapshot } = await this.#lanes.client(address).getSnapshot(request, call);
    if (!snapshot) throw new WrennError('INTERNAL', `${address} answered without snapshot ${id}`);
    return { ...snapshotOf(snapshot), id };
  }

  async list(address: string, call: OutboundCall): Promise<HostSnapshot[]> {
    const { snapshots } = await this.#lanes.client(address).listSnapshots({}, call);
    return snapshots.flatMap((snapshot) => {
      const { id } = snapshot;
      return isSnapshotId(id) ? [{ ...snapshotOf(snapshot), id }] : [];
    });
  }

  async delete(address: string, id: SnapshotId, call: OutboundCall): Promise<void> {
    await this.#lanes.client(address).deleteSnapshot({ snapshotId: id }, call);
  }
}

function snapshotOf({ parentId, generation, isDurable, problem, builds }: SnapshotMessage): Omit<HostSnapshot, 'id'> {
  return {
    parentId,
    generation,
    isDurable,
    problem,
    builds: builds.map((build) => ({
      id: build.id,
      generation: build.generation,
      memoryBytes: build.memoryBytes,
      diskBytes: build.diskBytes,
    })),
  };
}
