// A vm-runtime without VMs, over real gRPC: it keeps a table, and does what a test tells it to instead.
import { join } from 'node:path';

import { timestampOf } from '@wrenn/kit/duration';
import { WrennError } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import {
  type CreateVmRequest,
  type SnapshotVmRequest,
  VmRuntimeService,
  VmState,
} from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

export interface TestVm {
  state: VmState;
  deathReason: string;
  // What it goes on from; a VM that was booted goes on from none.
  parentId?: string;
}

export interface TestSnapshot {
  readonly sandboxId: string;
  readonly parentId: string;
  isDurable: boolean;
  problem?: string;
}

export interface TestHost {
  readonly id: string;
  readonly address: string;
  readonly vms: Map<string, TestVm>;
  readonly snapshots: Map<string, TestSnapshot>;
  readonly created: CreateVmRequest[];
  readonly destroyed: string[];
  readonly frozen: SnapshotVmRequest[];
  readonly deleted: string[];
  // How often it was asked what it runs, and which snapshots it has.
  listings(): number;
  snapshotListings(): number;
  // Runs while a VM is being made or removed; throws to fail it.
  whileCreating: (id: string, signal: AbortSignal) => Promise<void>;
  whileDestroying: (id: string, signal: AbortSignal) => Promise<void>;
  beforeListing: () => void;
  // Runs before a VM is frozen, and once it is, before the answer.
  whileFreezing: (id: string, signal: AbortSignal) => Promise<void>;
  afterFreezing: (id: string, signal: AbortSignal) => Promise<void>;
  // Runs while a snapshot becomes durable.
  whileCommitting: (snapshotId: string, signal: AbortSignal) => Promise<void>;
  // What a power cut leaves: no VM, and of the snapshots those that are durable.
  losePower(): void;
  close(): Promise<void>;
}

export async function startTestHost(id: string): Promise<TestHost> {
  const dir = await tempDir();
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  const address = `unix:${join(dir.path, 'host.sock')}`;
  let listings = 0;
  let snapshotListings = 0;
  const host: TestHost = {
    id,
    address,
    vms: new Map(),
    snapshots: new Map(),
    created: [],
    destroyed: [],
    frozen: [],
    deleted: [],
    listings: () => listings,
    snapshotListings: () => snapshotListings,
    whileCreating: async () => {},
    whileDestroying: async () => {},
    beforeListing: () => {},
    whileFreezing: async () => {},
    afterFreezing: async () => {},
    whileCommitting: async () => {},
    losePower() {
      host.vms.clear();
      for (const [snapshotId, { isDurable }] of host.snapshots) if (!isDurable) host.snapshots.delete(snapshotId);
    },
    async close() {
      await server.close();
      await dir[Symbol.asyncDispose]();
    },
  };

  const snapshotOf = (snapshotId: string) => {
    const snapshot = host.snapshots.get(snapshotId);
    if (!snapshot) throw new WrennError('SNAPSHOT_NOT_FOUND', snapshotId);
    return snapshot;
  };
  const generationOf = (snapshotId: string): number => {
    const parentId = host.snapshots.get(snapshotId)?.parentId;
    return parentId ? generationOf(parentId) + 1 : 0;
  };
  const view = (snapshotId: string) => ({
    id: snapshotId,
    ...snapshotOf(snapshotId),
    generation: generationOf(snapshotId),
    createdAt: timestampOf(new Date()),
    builds: [{ id: snapshotId, generation: 0, memoryBytes: 4096n, diskBytes: 512n }],
  });
  const committed = async (snapshotId: string, signal: AbortSignal) => {
    const snapshot = snapshotOf(snapshotId);
    if (snapshot.isDurable) return;
    await host.whileCommitting(snapshotId, signal);
    signal.throwIfAborted();
    // Deleted or lost meanwhile.
    snapshotOf(snapshotId).isDurable = true;
  };

  server.add(VmRuntimeService, {
    async createVm(request, { signal }) {
      const { sandboxId, snapshotId } = request;
      if (host.vms.has(sandboxId)) throw new WrennError('VM_EXISTS', sandboxId);
      if (snapshotId !== '' && snapshotOf(snapshotId).problem) {
        throw new WrennError('SNAPSHOT_CORRUPT', snapshotOf(snapshotId).problem ?? '');
      }
      host.created.push(request);
      const vm: TestVm = { state: VmState.STARTING, deathReason: '' };
      if (snapshotId !== '') vm.parentId = snapshotId;
      host.vms.set(sandboxId, vm);
      try {
        await host.whileCreating(sandboxId, signal);
        signal.throwIfAborted();
      } catch (error) {
        host.vms.delete(sandboxId);
        throw error;
      }
      vm.state = VmState.RUNNING;
      const timings = [{ stage: 'boot', startedAfter: { nanos: 1_000_000 }, duration: { nanos: 5_000_000 } }];
      return { vm: { sandboxId, state: vm.state, guestAddress: '10.11.0.1' }, timings };
    },
    async snapshotVm(request, { signal }) {
      const { sandboxId, snapshotId, keepRunning, waitDurable } = request;
      host.frozen.push(request);
      if (!host.snapshots.has(snapshotId)) {
        const vm = host.vms.get(sandboxId);
        if (!vm) throw new WrennError('SANDBOX_NOT_FOUND', sandboxId);
        if (vm.state !== VmState.RUNNING) throw new WrennError('SANDBOX_NOT_RUNNING', sandboxId);
        vm.state = VmState.FREEZING;
        try {
          await host.whileFreezing(sandboxId, signal);
          signal.throwIfAborted();
        } catch (error) {
          vm.state = VmState.RUNNING;
          throw error;
        }
        const parentId = vm.parentId ?? '';
        if (parentId !== '' && !host.snapshots.has(parentId)) throw new WrennError('SNAPSHOT_NOT_FOUND', parentId);
        host.snapshots.set(snapshotId, { sandboxId, parentId, isDurable: false });
        if (keepRunning) Object.assign(vm, { state: VmState.RUNNING, parentId: snapshotId });
        else host.vms.delete(sandboxId);
        await host.afterFreezing(sandboxId, signal);
      }
      if (waitDurable) await committed(snapshotId, signal);
      const timings = [{ stage: 'freeze', startedAfter: { nanos: 0 }, duration: { nanos: 2_000_000 } }];
      return { snapshot: view(snapshotId), timings };
    },
    async getSnapshot({ snapshotId, waitDurable }, { signal }) {
      if (waitDurable) await committed(snapshotId, signal);
      return { snapshot: view(snapshotId) };
    },
    async listSnapshots() {
      snapshotListings += 1;
      return { snapshots: [...host.snapshots.keys()].map(view) };
    },
    async deleteSnapshot({ snapshotId }) {
      host.deleted.push(snapshotId);
      host.snapshots.delete(snapshotId);
      return {};
    },
    async destroyVm({ sandboxId }, { signal }) {
      host.destroyed.push(sandboxId);
      await host.whileDestroying(sandboxId, signal);
      host.vms.delete(sandboxId);
      return {};
    },
    async listVms() {
      host.beforeListing();
      listings += 1;
      const vms = [...host.vms].map(([sandboxId, { state, deathReason }]) => ({
        sandboxId,
        state,
        deathReason,
        guestAddress: state === VmState.RUNNING ? '10.11.0.1' : '',
      }));
      return { vms };
    },
  });
  await server.listen(address);
  server.ready();
  return host;
}

// Never ends by itself.
export function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    const stop = () => reject(new WrennError('CANCELLED', 'interrupted'));
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
  });
}
