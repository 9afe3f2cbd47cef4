// Snapshots as this service uses them; the snapshot store keeps them.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Snapshot } from '@wrenn/proto/wrenn/snapshotstore/v1/snapshotstore';

// What the VMs of a host are made of. A snapshot is restored only where all of it is the same.
export interface VmmFacts {
  readonly vmm: string;
  readonly accelerator: string;
  readonly cpuModel: string;
  readonly kernel: string;
}

export interface MachineFacts extends VmmFacts {
  readonly vcpuCount: number;
  readonly memoryBytes: number;
}

export interface OpenedSnapshot {
  readonly machine: MachineFacts;
  readonly generation: number;
  readonly runCount: number;
  readonly workingSetPages: number;
  readonly changedBytes: number; // By the last life of its VM; 0 when that is not known.
  readonly headerPath: string;
  readonly memoryFiles: readonly { readonly path: string; readonly sumsPath: string }[];
  readonly vmstatePath: string;
  readonly workingSetPath: string; // Empty: none was recorded.
  readonly diskPath: string;
}

export interface StageRequest {
  readonly snapshotId: SnapshotId;
  readonly sandboxId: SandboxId;
  readonly parentId: SnapshotId | undefined;
  readonly frozenDirectory: string;
  readonly machine: MachineFacts;
  readonly template: string;
}

export interface Snapshots {
  // Idempotent.
  stage(request: StageRequest, call: OutboundCall): Promise<Snapshot>;
  open(snapshotId: SnapshotId, diskId: SandboxId, call: OutboundCall): Promise<OpenedSnapshot>;
  get(snapshotId: SnapshotId, waitDurable: boolean, call: OutboundCall): Promise<Snapshot>;
  list(call: OutboundCall): Promise<Snapshot[]>;
  delete(snapshotId: SnapshotId, call: OutboundCall): Promise<void>;
}

const compared: readonly (keyof VmmFacts)[] = ['vmm', 'accelerator', 'cpuModel', 'kernel'];

// Throws SNAPSHOT_INCOMPATIBLE naming what differs, both ways.
export function requireCompatible(made: MachineFacts, here: VmmFacts): void {
  const differing = compared.filter((fact) => made[fact] !== here[fact]);
  if (differing.length === 0) return;
  const text = differing.map((fact) => `${fact} ${made[fact]}, here it is ${here[fact]}`).join('; ');
  const meta = Object.fromEntries(
    differing.flatMap((fact) => [
      [`snapshot_${fact}`, made[fact]],
      [`host_${fact}`, here[fact]],
    ]),
  );
  throw new WrennError('SNAPSHOT_INCOMPATIBLE', `the snapshot was made with ${text}`, { meta });
}
