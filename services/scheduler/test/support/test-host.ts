// A vm-runtime without VMs, over real gRPC: it keeps a table, and does what a test tells it to instead.
import { join } from 'node:path';

import { WrennError } from '@wrenn/kit/errors';
import { openLog } from '@wrenn/kit/log';
import { RpcServer } from '@wrenn/kit/rpc-server';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { type CreateVmRequest, VmRuntimeService, VmState } from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

export interface TestVm {
  state: VmState;
  deathReason: string;
}

export interface TestHost {
  readonly id: string;
  readonly address: string;
  readonly vms: Map<string, TestVm>;
  readonly created: CreateVmRequest[];
  readonly destroyed: string[];
  // How often it was asked what it runs.
  listings(): number;
  // Runs while a VM is being made or removed; throws to fail it.
  whileCreating: (id: string, signal: AbortSignal) => Promise<void>;
  whileDestroying: (id: string, signal: AbortSignal) => Promise<void>;
  beforeListing: () => void;
  close(): Promise<void>;
}

export async function startTestHost(id: string): Promise<TestHost> {
  const dir = await tempDir();
  const server = new RpcServer({ log: openLog('test', 'silent'), drainMs: 100 });
  const address = `unix:${join(dir.path, 'host.sock')}`;
  let listings = 0;
  const host: TestHost = {
    id,
    address,
    vms: new Map(),
    created: [],
    destroyed: [],
    listings: () => listings,
    whileCreating: async () => {},
    whileDestroying: async () => {},
    beforeListing: () => {},
    async close() {
      await server.close();
      await dir[Symbol.asyncDispose]();
    },
  };
  server.add(VmRuntimeService, {
    async createVm(request, { signal }) {
      const { sandboxId } = request;
      if (host.vms.has(sandboxId)) throw new WrennError('VM_EXISTS', sandboxId);
      host.created.push(request);
      const vm: TestVm = { state: VmState.STARTING, deathReason: '' };
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
    async destroyVm({ sandboxId }, { signal }) {
      host.destroyed.push(sandboxId);
      await host.whileDestroying(sandboxId, signal);
      host.vms.delete(sandboxId);
      return {};
    },
    async listVms() {
      host.beforeListing();
      listings += 1;
      return { vms: [...host.vms].map(([sandboxId, vm]) => ({ sandboxId, ...vm })) };
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
