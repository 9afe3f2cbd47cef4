import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import type { Lanes, RpcClient } from '@wrenn/kit/lanes';
import { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { Disks, BootSpec } from '../domain/vm.ts';

const deleteLimitMs = 30_000;
const listLimitMs = 5000;
const sizeLimitMs = 2000; // A host that waited longer would seem to be gone.

export class StoreDisks implements Disks {
  readonly #store: RpcClient<typeof SnapshotStoreService.method>;

  constructor(lanes: Lanes) {
    this.#store = lanes.client('control', SnapshotStoreService);
  }

  async create({ sandboxId, image, diskBytes }: BootSpec, call: OutboundCall): Promise<{ path: string }> {
    const request = { diskId: sandboxId, image, virtualBytes: BigInt(diskBytes) };
    const { disk } = await this.#store.createDisk(request, call).catch(inOurWords);
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

  // What each takes on the host by now.
  async realBytes(): Promise<ReadonlyMap<SandboxId, number>> {
    const { disks } = await this.#store.listDisks({}, inMs(sizeLimitMs));
    return new Map(disks.map(({ id, realBytes }) => [id as SandboxId, Number(realBytes)]));
  }

  async takenBytes(): Promise<number> {
    return (await this.realBytes()).values().reduce((sum, bytes) => sum + bytes, 0);
  }
}

// The size is one that our caller has chosen, under another name: only the store knows what the image needs.
function inOurWords(error: unknown): never {
  if (!hasReason(error, 'INVALID_FIELD') || error.meta['field'] !== 'virtual_bytes') throw error;
  const message = error.message.replace('virtual_bytes', 'disk_bytes');
  throw new WrennError('INVALID_FIELD', message, { cause: error, meta: { field: 'disk_bytes' } });
}
