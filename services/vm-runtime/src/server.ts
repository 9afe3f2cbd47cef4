import { within } from '@wrenn/kit/deadlines';
import { invalidField } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';
import { durationOfMs, timestampOf } from '@wrenn/kit/duration';
import type { RpcHandlers, RpcServerOptions } from '@wrenn/kit/rpc-server';
import { isAccessToken } from '@wrenn/kit/tokens';
import {
  requireBytesWithin,
  requireEnv,
  requireName,
  requireSandboxId,
  requireSnapshotId,
  requireWithin,
} from '@wrenn/kit/validate';
import type { Stage } from '@wrenn/kit/stage-timer';
import type { LogService } from '@wrenn/proto/wrenn/v1/log';
import {
  type CreateVmRequest,
  MemorySource,
  type SnapshotVmRequest,
  VmState as WireState,
  type VmRuntimeService,
} from '@wrenn/proto/wrenn/vmruntime/v1/vmruntime';

import type { ConsoleLogs } from './domain/console-logs.ts';
import { killLimitMs } from './domain/exec.ts';
import type { MemorySource as DomainSource } from './domain/memory-source.ts';
import type { Snapshots } from './domain/snapshot.ts';
import { takeSnapshot } from './domain/take-snapshot.ts';
import type { VmSpec } from './domain/vm.ts';
import type { VmTable, VmView } from './domain/vm-table.ts';
import { execTimeoutMs } from './process-server.ts';

const MiB = 1024 * 1024;
const GiB = 1024 * MiB;
const consoleTailBytes = 65_536;
const commitLimitMs = 600_000;
const listLimitMs = 5000;
const deleteLimitMs = 30_000;
const answerMs = 5000;

export const deadlinesMs: NonNullable<RpcServerOptions['deadlinesMs']> = {
  'VmRuntimeService/CreateVm': 120_000,
  'VmRuntimeService/DestroyVm': 60_000,
  'VmRuntimeService/SnapshotVm': 600_000,
  'VmRuntimeService/GetSnapshot': 600_000,
  'ProcessService/Exec': (request) => execTimeoutMs(request) + killLimitMs + answerMs,
};

// As figures name them.
export const vmOperations = {
  createVm: ({ snapshotId }: Pick<CreateVmRequest, 'snapshotId'>) => (snapshotId === '' ? 'boot' : 'restore'),
  destroyVm: 'destroy',
  snapshotVm: ({ keepRunning }: Pick<SnapshotVmRequest, 'keepRunning'>) => (keepRunning ? 'snapshot' : 'pause'),
} as const;

export function vmHandlers(vms: VmTable, snapshots: Snapshots): RpcHandlers<typeof VmRuntimeService.method> {
  return {
    async createVm(request, call) {
      const { vm, stages } = await vms.create(specOf(request), call);
      return { vm: wireVm(vm), timings: wireTimings(stages) };
    },
    async destroyVm(request) {
      await vms.destroy(requireSandboxId(request.sandboxId));
      return {};
    },
    async listVms() {
      return { vms: vms.list().map(wireVm) };
    },
    async snapshotVm({ sandboxId, snapshotId, keepRunning, waitDurable }, call) {
      const order = { snapshotId: requireSnapshotId(snapshotId), keepRunning };
      const { snapshot, stages } = await takeSnapshot(vms, snapshots, requireSandboxId(sandboxId), order, call);
      const durable = waitDurable && (await snapshots.get(order.snapshotId, true, within(call, commitLimitMs)));
      return { snapshot: durable || snapshot, timings: wireTimings(stages) };
    },
    async getSnapshot({ snapshotId, waitDurable }, call) {
      return { snapshot: await snapshots.get(requireSnapshotId(snapshotId), waitDurable, within(call, commitLimitMs)) };
    },
    async listSnapshots(_request, call) {
      return { snapshots: await snapshots.list(within(call, listLimitMs)) };
    },
    async deleteSnapshot({ snapshotId }, call) {
      await snapshots.delete(requireSnapshotId(snapshotId), within(call, deleteLimitMs));
      return {};
    },
  };
}

export function logHandlers(consoles: ConsoleLogs): RpcHandlers<typeof LogService.method> {
  return {
    async readConsole({ sandboxId }) {
      return { console: await consoles.tail(requireSandboxId(sandboxId), consoleTailBytes) };
    },
    async *follow({ sandboxId, afterOffset }, { signal }) {
      const pieces = consoles.follow(requireSandboxId(sandboxId), Number(afterOffset), signal);
      for await (const { bytes, nextOffset } of pieces) yield { console: bytes, nextOffset: BigInt(nextOffset) };
    },
  };
}

function specOf(request: CreateVmRequest): VmSpec {
  const sandboxId: SandboxId = requireSandboxId(request.sandboxId);
  requireEnv(request.env, 'env');
  const template = requireName(request.template, 'template');
  const guest = {
    sandboxId,
    template,
    env: request.env,
    defaultUser: request.defaultUser,
    ...(request.accessToken !== '' && { accessToken: requireAccessToken(request.accessToken) }),
  };
  if (request.snapshotId !== '') return { ...guest, ...restoreOf(request) };
  return {
    ...guest,
    kind: 'boot',
    image: requireName(request.image, 'image'),
    vcpuCount: requireWithin(request.vcpuCount, 'vcpu_count', 1, 32),
    memoryBytes: requireBytesWithin(request.memoryBytes, 'memory_bytes', 96 * MiB, 64 * GiB, 2 * MiB),
    diskBytes: requireBytesWithin(request.diskBytes, 'disk_bytes', MiB, 1024 * GiB, MiB),
  };
}

function requireAccessToken(token: string): string {
  if (!isAccessToken(token)) throw invalidField('access_token', 'must be 32 to 128 printable ASCII characters');
  return token;
}

function restoreOf(request: CreateVmRequest) {
  const { image, vcpuCount, memoryBytes, diskBytes } = request;
  const given = Object.entries({ image, vcpu_count: vcpuCount, memory_bytes: memoryBytes, disk_bytes: diskBytes });
  for (const [field, value] of given) if (value) throw invalidField(field, 'must be unset with snapshot_id');
  const memorySource = sources[request.memorySource];
  if (memorySource === undefined) throw invalidField('memory_source', 'must be a source this version knows');
  return {
    kind: 'restore' as const,
    snapshotId: requireSnapshotId(request.snapshotId),
    ...(memorySource !== 'cheapest' && { memorySource }),
  };
}

const sources: Partial<Record<MemorySource, DomainSource | 'cheapest'>> = {
  [MemorySource.UNSPECIFIED]: 'cheapest',
  [MemorySource.MAP]: 'map',
  [MemorySource.UFFD]: 'uffd',
  [MemorySource.COPY]: 'copy',
};

const wireStates = {
  starting: WireState.STARTING,
  running: WireState.RUNNING,
  freezing: WireState.FREEZING,
  thawing: WireState.FREEZING,
  frozen: WireState.STOPPING,
  stopping: WireState.STOPPING,
  dead: WireState.DEAD,
} as const;

function wireTimings(stages: readonly Stage[]) {
  return stages.map(({ stage, startedAfterMs, durationMs }) => ({
    stage,
    startedAfter: durationOfMs(startedAfterMs),
    duration: durationOfMs(durationMs),
  }));
}

function wireVm({ sandboxId, createdAt, state }: VmView) {
  return {
    sandboxId,
    state: wireStates[state.name],
    createdAt: timestampOf(createdAt),
    ...(state.name === 'running' && { guestAddress: state.facts.guestAddress }),
    ...(state.name === 'dead' && { deathReason: state.death.reason, deathMessage: state.death.message }),
  };
}
