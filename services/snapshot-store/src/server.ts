import { invalidField } from '@wrenn/kit/errors';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireName, requireSandboxId } from '@wrenn/kit/validate';
import type { SnapshotStoreService } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { StoredDisk } from './domain/references.ts';
import type { CountedImage, SnapshotStore } from './domain/snapshot-store.ts';

export function snapshotStoreHandlers(store: SnapshotStore): RpcHandlers<typeof SnapshotStoreService.method> {
  return {
    importImage: async ({ name, sourcePath }, { signal }) => {
      const path = requireAbsolutePath(sourcePath, 'source_path');
      return { image: imageMessage(await store.importImage(requireName(name, 'name'), path, signal)) };
    },
    listImages: async () => ({ images: (await store.listImages()).map(imageMessage) }),
    deleteImage: async ({ name }) => {
      await store.deleteImage(requireName(name, 'name'));
      return {};
    },
    createDisk: async ({ diskId, image, virtualBytes }) => {
      const id = requireSandboxId(diskId, 'disk_id');
      return { disk: diskMessage(await store.createDisk(id, requireName(image, 'image'), virtualBytes)) };
    },
    deleteDisk: async ({ diskId }) => {
      await store.deleteDisk(requireSandboxId(diskId, 'disk_id'));
      return {};
    },
    listDisks: async () => ({ disks: (await store.listDisks()).map(diskMessage) }),
  };
}

function requireAbsolutePath(value: string, field: string): string {
  if (!value.startsWith('/') || value.includes('\0')) throw invalidField(field, 'must be an absolute path');
  return value;
}

function imageMessage(image: CountedImage) {
  const { name, digest, diskCount, isCurrent, problem } = image;
  const sizes = { virtualBytes: BigInt(image.virtualBytes), realBytes: BigInt(image.realBytes) };
  return { name, digest, ...sizes, diskCount, isCurrent, problem };
}

function diskMessage(disk: StoredDisk) {
  const { id, image, imageDigest, path, problem } = disk;
  const sizes = { virtualBytes: BigInt(disk.virtualBytes), realBytes: BigInt(disk.realBytes) };
  return { id, image, imageDigest, path, format: 'qcow2', ...sizes, problem };
}
