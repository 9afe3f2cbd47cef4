import type { Clock } from '@wrenn/kit/clock';
import { invalidField } from '@wrenn/kit/errors';
import type { OperationTimes } from '@wrenn/kit/metrics/operation-times';
import type { RpcHandlers, RpcServer } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import { msOfDuration } from '@wrenn/kit/duration';
import { SchedulerService } from '@wrenn/proto/wrenn/scheduler/v1/scheduler';
import { HostService } from '@wrenn/proto/wrenn/v1/host';
import { type SandboxServiceCreateRequest, SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';
import { SnapshotService } from '@wrenn/proto/wrenn/v1/snapshot';
import { timestampOf } from '@wrenn/kit/duration';

import { requirePortAccess } from './domain/access.ts';
import { createKeyOf } from './domain/create-key.ts';
import { createSpecOf } from './domain/create-origin.ts';
import type { CreateQueue } from './domain/create-queue.ts';
import { requireCreateRequest, requireTtl } from './domain/create-request.ts';
import { type CreateSandbox, createLimitMs } from './domain/create-sandbox.ts';
import { type DestroySandbox, destroyLimitMs } from './domain/destroy-sandbox.ts';
import type { EventFeed } from './domain/event-feed.ts';
import type { Host } from './domain/host.ts';
import { requireHostReport } from './domain/host-report.ts';
import { keepAlive } from './domain/keep-alive.ts';
import { listPage } from './domain/list-page.ts';
import { requireFound, requireLive } from './domain/lookup.ts';
import { nameLimitMs } from './domain/name-snapshot.ts';
import { pauseLimitMs } from './domain/pause-sandbox.ts';
import type { HostStore, QuotaStore, SandboxStore, TemplateStore } from './domain/ports.ts';
import { requireQuota } from './domain/quota.ts';
import { resumeLimitMs } from './domain/resume-sandbox.ts';
import { requireTemplate } from './domain/template-request.ts';
import type { WakeSandbox } from './domain/wake-sandbox.ts';
import {
  accessMessage,
  eventMessage,
  foundMessage,
  hostMessage,
  requireStates,
  sandboxMessage,
  templateMessage,
  timingMessage,
} from './messages.ts';
import { type SnapshotServerParts, lifecycleHandlers, snapshotHandlers } from './snapshot-server.ts';

export interface ServerParts extends SnapshotServerParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly quotas: QuotaStore;
  readonly templates: TemplateStore;
  readonly events: EventFeed;
  readonly queue: CreateQueue;
  readonly create: CreateSandbox;
  readonly wake: WakeSandbox;
  readonly destroy: DestroySandbox;
  readonly clock: Clock;
  readonly times: OperationTimes;
}

const lifecycleOperations = {
  create: 'create',
  pause: 'pause',
  resume: 'resume',
  fork: 'fork',
  destroy: 'destroy',
} as const;

const maxReported = 1000;

export const deadlinesMs = {
  // The time in the queue comes on top. One out of bounds is refused later; here it must only not break a timer.
  'SandboxService/Create': ({ queueTimeout }: Pick<SandboxServiceCreateRequest, 'queueTimeout'>) =>
    createLimitMs + Math.min(Math.max(queueTimeout ? msOfDuration(queueTimeout) : 0, 0), 600_000),
  'SandboxService/Destroy': destroyLimitMs,
  'SandboxService/Pause': pauseLimitMs,
  'SandboxService/Resume': resumeLimitMs,
  'SandboxService/Fork': createLimitMs,
  'SnapshotService/Create': nameLimitMs,
  // Looking it up takes no time; resuming it may.
  'SchedulerService/ResolveSandbox': resumeLimitMs,
};

export function addServices(server: RpcServer, parts: ServerParts): void {
  const { times } = parts;
  server.add(SandboxService, times.handlers(sandboxHandlers(parts), lifecycleOperations));
  server.add(SnapshotService, times.handlers(snapshotHandlers(parts), { create: 'snapshot' }));
  server.add(HostService, hostHandlers(parts));
  server.add(SchedulerService, schedulerHandlers(parts));
}

function sandboxHandlers(parts: ServerParts): RpcHandlers<typeof SandboxService.method> {
  const { sandboxes, templates, names, events, create, once, destroy } = parts;
  return {
    ...lifecycleHandlers(parts),
    async create(request, call) {
      const wanted = requireCreateRequest(request);
      const spec = await createSpecOf(wanted, templates, names);
      const { queueTimeoutMs } = wanted;
      const key = createKeyOf(wanted);
      const { sandbox, timings } = key
        ? await once.run(key, call, ({ caller, onPlaced }) =>
            create.run(spec, { key, queueTimeoutMs, onPlaced }, caller),
          )
        : await create.run(spec, { key, queueTimeoutMs }, call);
      return { sandbox: sandboxMessage(sandbox), timings: timings.map(timingMessage) };
    },
    async get(request) {
      const id = requireSandboxId(request.sandboxId);
      return { sandbox: sandboxMessage(requireFound(await sandboxes.find(id), id)) };
    },
    async list({ states, pageSize, pageToken }) {
      const page = await listPage(sandboxes, requireStates(states), pageSize, pageToken);
      return { sandboxes: page.sandboxes.map(sandboxMessage), nextPageToken: page.nextToken };
    },
    async destroy(request, call) {
      return { sandbox: sandboxMessage(await destroy.run(requireSandboxId(request.sandboxId), call.signal)) };
    },
    async setTimeout(request) {
      const id = requireSandboxId(request.sandboxId);
      if (!request.ttl) throw invalidField('ttl', 'must be set');
      return { sandbox: sandboxMessage(await keepAlive(sandboxes, id, requireTtl(request.ttl))) };
    },
    async ping(request) {
      const kept = await keepAlive(sandboxes, requireSandboxId(request.sandboxId));
      return { expiresAt: timestampOf(kept.expiresAt) };
    },
    async getAccess(request) {
      const id = requireSandboxId(request.sandboxId);
      return { access: accessMessage(requireLive(await sandboxes.find(id), id).access) };
    },
    async setAccess(request) {
      const id = requireSandboxId(request.sandboxId);
      return { sandbox: sandboxMessage(requireLive(await sandboxes.setAccess(id, requirePortAccess(request)), id)) };
    },
    async *watchEvents({ sandboxId, afterSequence, liveOnly }, call) {
      if (liveOnly && afterSequence !== 0n) throw invalidField('after_sequence', 'must be 0 with live_only');
      const watched = events.watch({
        sandboxId: sandboxId === '' ? undefined : requireSandboxId(sandboxId),
        after: liveOnly ? 'now' : afterSequence,
        signal: call.signal,
        onPosition(position) {
          // Sent at once, so that a client knows from when on it misses nothing; gRPC sends no empty one.
          call.header.set('wrenn-after-sequence', String(position));
          call.sendHeader();
        },
      });
      for await (const event of watched) yield { event: eventMessage(event) };
    },
  };
}

function hostHandlers({ hosts, clock }: ServerParts): RpcHandlers<typeof HostService.method> {
  return {
    async list() {
      const all = await hosts.list();
      const now = clock.now();
      return { hosts: all.map((host) => hostMessage(host, now)) };
    },
  };
}

function schedulerHandlers(parts: ServerParts): RpcHandlers<typeof SchedulerService.method> {
  const { sandboxes, hosts, quotas, templates, queue, wake } = parts;
  return {
    async reportHost(request) {
      await hosts.report(requireHostReport(request));
      queue.look();
      return {};
    },
    async resolveSandbox(request, call) {
      const id = requireSandboxId(request.sandboxId);
      if (request.anyState) {
        const { hostId = '' } = requireFound(await sandboxes.find(id), id);
        return addressesOf(await hosts.find(hostId));
      }
      let isWaking = false;
      const onWaking = () => {
        if (isWaking) return;
        isWaking = true;
        // Says that the answer will take its time; a caller that hears nothing takes us for dead.
        call.header.set('wrenn-waking', '1');
        call.sendHeader();
      };
      const { hostId = '', guestAddress } = await wake.run(id, call, onWaking);
      return { ...addressesOf(await hosts.find(hostId)), hostId, guestAddress };
    },
    async findSandbox(request) {
      const id = requireSandboxId(request.sandboxId);
      return foundMessage(requireLive(await sandboxes.find(id), id));
    },
    async reportActivity({ sandboxIds }) {
      if (sandboxIds.length > maxReported) throw invalidField('sandbox_ids', `must be at most ${maxReported}`);
      const ids = sandboxIds.map((id) => requireSandboxId(id, 'sandbox_ids'));
      if (ids.length > 0) await sandboxes.keepUsed(ids);
      return {};
    },
    async putQuota(request) {
      await quotas.put(requireQuota(request.quota));
      queue.look();
      return {};
    },
    async putTemplate(request) {
      await templates.put(requireTemplate(request.template));
      return {};
    },
    async listTemplates() {
      return { templates: (await templates.list()).map(templateMessage) };
    },
  };
}

function addressesOf(host: Host | undefined) {
  return { hostId: host?.id ?? '', hostAddress: host?.address ?? '', hostBulkAddress: host?.bulkAddress ?? '' };
}
