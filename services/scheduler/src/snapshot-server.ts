// Handlers of what stands on snapshots: pause, resume, fork, and SnapshotService.
import { within } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { Call, RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireName, requireSandboxId } from '@wrenn/kit/validate';
import type { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import type { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';

import { requireRequestId, requireTtl } from './domain/create-request.ts';
import { forkKeyOf, requireForkRequest } from './domain/fork-request.ts';
import type { ForkSandbox } from './domain/fork-sandbox.ts';
import { requireFound, snapshotNotFound } from './domain/lookup.ts';
import { type NameSnapshot, nameKeyOf } from './domain/name-snapshot.ts';
import type { Once } from './domain/once.ts';
import type { PauseSandbox } from './domain/pause-sandbox.ts';
import type { HostSnapshots, HostStore, SandboxStore } from './domain/ports.ts';
import { requireHost } from './domain/require-host.ts';
import type { ResumeSandbox } from './domain/resume-sandbox.ts';
import type { SnapshotNames } from './domain/snapshot-ports.ts';
import type { NamedSnapshot } from './domain/snapshot.ts';
import { sandboxMessage, snapshotMessage, timingMessage } from './messages.ts';

export interface SnapshotServerParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly hostSnapshots: HostSnapshots;
  readonly names: SnapshotNames;
  readonly once: Once;
  readonly pause: PauseSandbox;
  readonly resume: ResumeSandbox;
  readonly fork: ForkSandbox;
  readonly naming: NameSnapshot;
}

type Lifecycle = Pick<RpcHandlers<typeof SandboxService.method>, 'pause' | 'resume' | 'fork'>;

const unkeyed = (caller: Call) => ({ caller, onPlaced: () => undefined });
const chainLimitMs = 10_000;

export function lifecycleHandlers(parts: SnapshotServerParts): Lifecycle {
  const { sandboxes, pause, resume, fork, once } = parts;
  return {
    async pause({ sandboxId, waitDurable }, call) {
      const { sandbox, timings } = await pause.run(requireSandboxId(sandboxId), { isDurable: waitDurable }, call);
      return { sandbox: sandboxMessage(sandbox), timings: timings.map(timingMessage) };
    },
    async resume({ sandboxId, ttl }, call) {
      const terms = { reason: 'REQUESTED', ttlMs: ttl ? requireTtl(ttl) : undefined } as const;
      const { sandbox, timings } = await resume.run(requireSandboxId(sandboxId), terms, call);
      return { sandbox: sandboxMessage(sandbox), timings: timings.map(timingMessage) };
    },
    async fork(request, call) {
      const spec = requireForkRequest(request);
      const { project } = requireFound(await sandboxes.find(spec.sandboxId), spec.sandboxId);
      const key = forkKeyOf(spec, project);
      const forked = key
        ? await once.run(key, call, (terms) => fork.run(spec, terms))
        : await fork.run(spec, unkeyed(call));
      return { sandboxes: forked.sandboxes.map(sandboxMessage), timings: forked.timings.map(timingMessage) };
    },
  };
}

export function snapshotHandlers(parts: SnapshotServerParts): RpcHandlers<typeof SnapshotService.method> {
  const { sandboxes, names, naming, once } = parts;
  return {
    async create({ sandboxId, name, requestId }, call) {
      const request = {
        sandboxId: requireSandboxId(sandboxId),
        name: requireName(name, 'name'),
        requestId: requestId === '' ? undefined : requireRequestId(requestId),
      };
      const { project } = requireFound(await sandboxes.find(request.sandboxId), sandboxId);
      const key = nameKeyOf(request, project);
      const named = key
        ? await once.run(key, call, (terms) => naming.run(request, terms))
        : await naming.run(request, unkeyed(call));
      return { snapshot: snapshotMessage(named) };
    },
    async get({ name }, call) {
      const named = await names.find(requireName(name, 'name'));
      if (!named) throw snapshotNotFound(name);
      return { snapshot: { ...snapshotMessage(named), ...(await chainOf(parts, named, call)) } };
    },
    async list() {
      return { snapshots: (await names.list()).map(snapshotMessage) };
    },
    async delete({ name }) {
      await names.delete(requireName(name, 'name'));
      return {};
    },
  };
}

async function chainOf({ hosts, hostSnapshots }: SnapshotServerParts, { id, hostId }: NamedSnapshot, call: Call) {
  const { address } = await requireHost(hosts, hostId);
  try {
    const found = await hostSnapshots.get(address, id, { isDurable: false }, within(call, chainLimitMs));
    const { generation, problem, builds } = found;
    return { generation, problem, builds: [...builds] };
  } catch (error) {
    if (!hasReason(error, 'SNAPSHOT_NOT_FOUND')) throw error;
    return { problem: `host ${hostId} does not have its files any more` };
  }
}
