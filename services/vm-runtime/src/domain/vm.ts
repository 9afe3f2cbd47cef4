// What vm-runtime knows of one microVM, and the parts of the world it is made of.
import type { OutboundCall } from '@wrenn/kit/deadlines';
import type { SandboxId } from '@wrenn/kit/ids';
import type { ProcessIdentity } from '@wrenn/kit/process-identity';

import type { GuestAgent } from './guest-agent.ts';

export interface VmSpec {
  readonly sandboxId: SandboxId;
  readonly template: string;
  readonly image: string;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly env: Readonly<Record<string, string>>;
  readonly defaultUser: string;
}

export interface Slot {
  readonly namespace: string;
  readonly tap: string;
  readonly guestMac: string;
  readonly guestAddress: string;
  readonly vmmUid: number;
}

export interface Death {
  readonly reason: 'VMM_DIED' | 'VMM_STUCK' | 'GUEST_SHUTDOWN' | 'RELEASE_FAILED';
  readonly message: string;
}

export interface RunningVm {
  readonly machine: Machine;
  readonly agent: GuestAgent;
  readonly guestAddress: string;
  readonly accessToken: string; // Signs the URLs of its files; empty for one made before there were any.
}

export type VmState =
  | { readonly name: 'starting' | 'stopping' }
  | ({ readonly name: 'running' } & RunningVm)
  | { readonly name: 'dead'; readonly death: Death; readonly machine?: Machine };

// What the journal keeps of a VM. `starting` is written before anything is acquired; every resource bears
// the sandbox id, so that a restart can find and release what such a VM had got so far.
export type VmRecord = { readonly sandboxId: SandboxId; readonly createdAtMs: number } & (
  | { readonly phase: 'starting' }
  | {
      readonly phase: 'running';
      readonly guestAddress: string;
      readonly vmm: ProcessIdentity;
      readonly accessToken: string;
    }
);

// A VMM process with a guest inside.
export interface Machine {
  readonly process: ProcessIdentity;
  // Resolves once the guest has stopped for ever or the VMM is gone.
  readonly ended: Promise<Death>;
  // Whether it answers on its control socket; never rejects.
  isAnswering(limitMs: number): Promise<boolean>;
  // The end of the guest's serial console, at most 64 KiB.
  readConsole(): Promise<Uint8Array>;
}

export interface Launch {
  readonly sandboxId: SandboxId;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly slot: Slot;
  readonly diskPath: string;
}

// One kind of VMM. Everything it makes for a machine bears the sandbox id.
export interface Vmm {
  // Errors: VMM_START_FAILED.
  start(launch: Launch, signal: AbortSignal): Promise<Machine>;
  // Takes charge of a machine that an earlier life of this service started, without waiting for it to answer;
  // undefined if it is gone.
  adopt(sandboxId: SandboxId, process: ProcessIdentity): Machine | undefined;
  // Kills whatever runs for a sandbox and removes all it had on the host, known to this life or not.
  release(sandboxId: SandboxId): Promise<void>;
}

export interface Slots {
  lease(owner: SandboxId, call: OutboundCall): Promise<Slot>;
  release(owner: SandboxId): Promise<void>;
  owners(): Promise<SandboxId[]>;
}

export interface Disks {
  create(spec: VmSpec, call: OutboundCall): Promise<{ path: string }>;
  delete(id: SandboxId): Promise<void>;
  ids(): Promise<SandboxId[]>;
}

export interface Journal {
  write(record: VmRecord): Promise<void>;
  remove(sandboxId: SandboxId): Promise<void>;
  readAll(): Promise<VmRecord[]>;
}

export interface AgentDialer {
  dial(guestAddress: string, accessToken: string): GuestAgent;
}

// Where the files of running sandboxes are served, apart from all else.
export interface BulkServer {
  add(sandboxId: SandboxId, guestAddress: string, accessToken: string): void;
  // Cuts its transfers. Idempotent.
  remove(sandboxId: SandboxId): void;
}
