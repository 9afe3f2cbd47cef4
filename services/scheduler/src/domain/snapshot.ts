import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

// What the database knows of a snapshot: enough to restore it.
export interface Snapshot {
  readonly id: SnapshotId;
  readonly hostId: string;
  // The sandbox it was made of, which may be over.
  readonly sandboxId: SandboxId;
  readonly project: string;
  readonly template: string;
  readonly defaultUser: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  // The sandbox goes on from it, instead of being paused.
  readonly keepsRunning: boolean;
  readonly generation: number;
  readonly isDurable: boolean;
  readonly createdAt: Date;
}

export interface NamedSnapshot extends Snapshot {
  readonly name: string;
  readonly requestId: string | undefined;
  // Of which sandbox it was asked for: where that was paused it stands on what others may stand on too.
  readonly namedOf: SandboxId;
  readonly namedAt: Date;
}

// What processes in a sandbox are given.
export interface Settings {
  readonly env: Readonly<Record<string, string>>;
  readonly defaultUser: string;
}

// What a host says of a snapshot.
export interface HostSnapshot {
  readonly id: SnapshotId;
  readonly parentId: string;
  readonly generation: number;
  readonly isDurable: boolean;
  readonly problem: string;
  readonly builds: readonly SnapshotBuild[];
}

export interface SnapshotBuild {
  readonly id: string;
  readonly generation: number;
  readonly memoryBytes: bigint;
  readonly diskBytes: bigint;
}
