import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { Access } from './access.ts';
import type { SandboxState } from './sandbox-state.ts';

export type TimeoutAction = 'destroy' | 'pause';

export interface Sandbox {
  readonly id: SandboxId;
  readonly project: string;
  readonly template: string;
  readonly state: SandboxState;
  readonly errorReason: string;
  readonly errorMessage: string;
  readonly hostId: string | undefined;
  readonly guestAddress: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly ttlMs: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly onTimeout: TimeoutAction;
  readonly autoResume: boolean;
  readonly access: Access;
  // What it was last paused to, or goes on from.
  readonly snapshotId: SnapshotId | undefined;
  // A power cut cannot lose `snapshotId` any more.
  readonly isDurable: boolean;
  // The newest durable one before `snapshotId`, until that is durable itself.
  readonly previousSnapshotId: SnapshotId | undefined;
  // One that its host was asked to make, and whose making is not settled yet.
  readonly nextSnapshotId: SnapshotId | undefined;
  readonly version: number;
  readonly createdAt: Date;
  readonly stateChangedAt: Date;
  readonly expiresAt: Date;
}

export interface SandboxEvent {
  readonly sequence: bigint;
  readonly sandboxId: string;
  readonly from: SandboxState | undefined;
  readonly to: SandboxState;
  readonly reason: string;
  readonly at: Date;
}

export interface Template {
  readonly name: string;
  readonly image: string;
  readonly description: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly defaultUser: string;
}
