import type { SandboxId } from '@wrenn/kit/ids';

import type { SandboxState } from './sandbox-state.ts';

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
