import type { SandboxId } from '@wrenn/kit/ids';
import { durationOfMs, timestampOf } from '@wrenn/kit/duration';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireEnv, requireName, requireSandboxId, requireBytesWithin, requireWithin } from '@wrenn/kit/validate';
import type { LogService } from '@wrenn/proto/wrenn/v1/log';
import {
  type CreateVmRequest,
  VmState as WireState,
  type VmRuntimeService,
} from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

import type { VmSpec } from './domain/vm.ts';
import type { VmTable, VmView } from './domain/vm-table.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;

export function vmHandlers(vms: VmTable): RpcHandlers<typeof VmRuntimeService.method> {
  return {
    async createVm(request, call) {
      const { vm, stages } = await vms.create(specOf(request), call);
      const timings = stages.map(({ stage, startedAfterMs, durationMs }) => ({
        stage,
        startedAfter: durationOfMs(startedAfterMs),
        duration: durationOfMs(durationMs),
      }));
      return { vm: wireVm(vm), timings };
    },
    async destroyVm(request) {
      await vms.destroy(requireSandboxId(request.sandboxId));
      return {};
    },
    async listVms() {
      return { vms: vms.list().map(wireVm) };
    },
  };
}

export function logHandlers(vms: VmTable): RpcHandlers<typeof LogService.method> {
  return {
    async readConsole(request) {
      return { console: await vms.readConsole(requireSandboxId(request.sandboxId)) };
    },
  };
}

function specOf(request: CreateVmRequest): VmSpec {
  const sandboxId: SandboxId = requireSandboxId(request.sandboxId);
  requireEnv(request.env, 'env');
  return {
    sandboxId,
    template: requireName(request.template, 'template'),
    image: requireName(request.image, 'image'),
    vcpuCount: requireWithin(request.vcpuCount, 'vcpu_count', 1, 32),
    memoryBytes: requireBytesWithin(request.memoryBytes, 'memory_bytes', 96 * MiB, 64 * GiB, 2 * MiB),
    diskBytes: requireBytesWithin(request.diskBytes, 'disk_bytes', MiB, 1024 * GiB, MiB),
    env: request.env,
    defaultUser: request.defaultUser,
  };
}

const wireStates = {
  starting: WireState.STARTING,
  running: WireState.RUNNING,
  stopping: WireState.STOPPING,
  dead: WireState.DEAD,
} as const;

function wireVm({ sandboxId, createdAt, state }: VmView) {
  return {
    sandboxId,
    state: wireStates[state.name],
    createdAt: timestampOf(createdAt),
    ...(state.name === 'running' && { guestAddress: state.guestAddress }),
    ...(state.name === 'dead' && { deathReason: state.death.reason, deathMessage: state.death.message }),
  };
}
