import { invalidField } from '@wrenn/kit/errors';
import { timestampOf } from '@wrenn/kit/duration';
import type { SnapshotId } from '@wrenn/kit/ids';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import {
  requireBytesWithin,
  requireName,
  requireSandboxId,
  requireSnapshotId,
  requireWithin,
} from '@wrenn/kit/validate';
import type {
  Machine as MachineMessage,
  SnapshotStoreService,
} from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

import type { StoredDisk } from './domain/references.ts';
import type { StoredSnapshot } from './domain/snapshot.ts';
import type { Machine } from './domain/snapshot-manifest.ts';
import type { CountedImage, SnapshotStore } from './domain/snapshot-store.ts';
import type { Snapshots } from './domain/snapshots.ts';

const maxTextBytes = 256;

// As figures name them.
export const storeOperations = {
  createDisk: 'create disk',
  deleteDisk: 'delete disk',
  stageSnapshot: 'stage snapshot',
  openSnapshot: 'open snapshot',
  deleteSnapshot: 'delete snapshot',
} as const;

export function snapshotStoreHandlers({
  store,
  snapshots,
}: {
  readonly store: SnapshotStore;
  readonly snapshots: Snapshots;
}): RpcHandlers<typeof SnapshotStoreService.method> {
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
      await snapshots.collect();
      return {};
    },
    listDisks: async () => ({ disks: (await store.listDisks()).map(diskMessage) }),

    stageSnapshot: async ({ snapshotId, sandboxId, parentId, frozenDirectory, machine, template }) => {
      const snapshot = await snapshots.stage({
        id: requireSnapshotId(snapshotId, 'snapshot_id'),
        sandboxId: requireSandboxId(sandboxId),
        parentId: parentId === '' ? null : requireSnapshotId(parentId, 'parent_id'),
        frozenDirectory: requireAbsolutePath(frozenDirectory, 'frozen_directory'),
        machine: requireMachine(machine),
        template: requireText(template, 'template'),
      });
      return { snapshot: snapshotMessage(snapshot) };
    },
    getSnapshot: async ({ snapshotId, waitDurable }, { signal }) => {
      const id = requireSnapshotId(snapshotId, 'snapshot_id');
      return { snapshot: snapshotMessage(await snapshots.get(id, waitDurable, signal)) };
    },
    listSnapshots: async () => ({ snapshots: snapshots.list().map(snapshotMessage) }),
    openSnapshot: async ({ snapshotId, diskId }, { signal }) => {
      const id = requireSnapshotId(snapshotId, 'snapshot_id');
      const { snapshot, memory, disk } = await snapshots.open(id, requireSandboxId(diskId, 'disk_id'), signal);
      const { files: memoryFiles, ...opened } = memory;
      return { snapshot: snapshotMessage(snapshot), ...opened, memoryFiles: [...memoryFiles], disk: diskMessage(disk) };
    },
    verifySnapshot: async ({ snapshotId }, { signal }) => {
      return { problems: await snapshots.verify(requireSnapshotId(snapshotId, 'snapshot_id'), signal) };
    },
    repairSnapshot: async ({ snapshotId }, { signal }) => {
      return snapshots.repair(requireSnapshotId(snapshotId, 'snapshot_id'), signal);
    },
    deleteSnapshot: async ({ snapshotId }) => {
      await snapshots.delete(requireSnapshotId(snapshotId, 'snapshot_id'));
      return {};
    },
  };
}

function requireAbsolutePath(value: string, field: string): string {
  if (!value.startsWith('/') || value.includes('\0')) throw invalidField(field, 'must be an absolute path');
  return value;
}

function requireText(value: string, field: string): string {
  if (Buffer.byteLength(value) <= maxTextBytes) return value;
  throw invalidField(field, `must be at most ${maxTextBytes} bytes`);
}

function requireMachine(machine: MachineMessage | undefined): Machine {
  if (!machine) throw invalidField('machine', 'must be set');
  const { vmm, accelerator, cpuModel, kernel, vcpuCount, memoryBytes } = machine;
  return {
    vmm: requireText(vmm, 'machine.vmm'),
    accelerator: requireText(accelerator, 'machine.accelerator'),
    cpuModel: requireText(cpuModel, 'machine.cpu_model'),
    kernel: requireText(kernel, 'machine.kernel'),
    vcpuCount: requireWithin(vcpuCount, 'machine.vcpu_count', 1, 1024),
    memoryBytes: requireBytesWithin(memoryBytes, 'machine.memory_bytes', 4096, 2 ** 40, 4096),
  };
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

function snapshotMessage(snapshot: StoredSnapshot) {
  const { id, sandboxId, template, generation, machine, isDurable, problem } = snapshot;
  return {
    ...{ id, sandboxId, template, generation, isDurable, problem },
    parentId: snapshot.parentId ?? '',
    ...(machine && { machine: { ...machine, memoryBytes: BigInt(machine.memoryBytes) } }),
    diskBytes: BigInt(snapshot.diskBytes),
    createdAt: timestampOf(new Date(snapshot.createdAt)),
    builds: snapshot.builds.map((build) => buildMessage(build.id, build)),
    ownBytes: BigInt(snapshot.ownBytes),
  };
}

function buildMessage(id: SnapshotId, build: StoredSnapshot['builds'][number]) {
  const { generation, memoryBytes, diskBytes } = build;
  return { id, generation, memoryBytes: BigInt(memoryBytes), diskBytes: BigInt(diskBytes) };
}
