import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import type { Lanes, RpcClient } from '@wrenn/kit/lanes';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { Disks, BootSpec } from '../domain/vm.ts';

const deleteLimitMs = 30_000;
const listLimitMs = 5000;

export class StoreDisks implements Disks {
  readonly #store: RpcClient<typeof SnapshotStoreService.method>;

  constructor(lanes: Lanes) {
    this.#store = lanes.client('control', SnapshotStoreService);
  }

  async create({ sandboxId, image, diskBytes }: BootSpec, call: OutboundCall): Promise<{ path: string }> {
    const request = { diskId: sandboxId, image, virtualBytes: BigInt(diskBytes) };
    const { disk } = await this.#store.createDisk(request, call);
    if (!disk) throw new WrennError('INTERNAL', 'the snapshot store made no disk');
    return { path: disk.path };
  }

  async delete(id: SandboxId): Promise<void> {
    await this.#store.deleteDisk({ diskId: id }, inMs(deleteLimitMs));
  }

  async ids(): Promise<SandboxId[]> {
    const { disks } = await this.#store.listDisks({}, inMs(listLimitMs));
    return disks.map((disk) => disk.id).filter(isSandboxId);
  }
}
