// What a create starts from: a template, or a snapshot, whose sizes are what they were when it was frozen.
import { WrennError, invalidField } from '@wrenn/kit/errors';

import { type CreateRequest, type CreateSpec, specOf } from './create-request.ts';
import { withAdded } from './fork-request.ts';
import type { TemplateStore } from './ports.ts';
import type { SnapshotNames } from './snapshot-ports.ts';
import type { NamedSnapshot, Settings } from './snapshot.ts';

export async function createSpecOf(
  request: CreateRequest,
  templates: TemplateStore,
  names: SnapshotNames,
): Promise<CreateSpec> {
  const { template: name } = request;
  const template = await templates.find(name);
  if (template) return specOf(request, template);
  const snapshot = await names.find(name);
  if (snapshot) return specOfSnapshot(request, snapshot, await names.settings(snapshot.id));
  throw new WrennError('TEMPLATE_NOT_FOUND', `no template or snapshot ${name}`, { meta: { template: name } });
}

export function specOfSnapshot(request: CreateRequest, snapshot: NamedSnapshot, settings: Settings): CreateSpec {
  requireLocked(request, snapshot);
  const { vcpuCount, memoryBytes, diskBytes, defaultUser, template, ...origin } = snapshot;
  const { env } = withAdded(settings, request.env);
  const image = { name: template, image: '', description: '', vcpuCount, memoryBytes, diskBytes, defaultUser };
  return { ...specOf({ ...request, vcpuCount, memoryBytes, diskBytes }, image), env, snapshot: origin };
}

function requireLocked(request: CreateRequest, snapshot: NamedSnapshot): void {
  for (const [field, name] of [
    ['vcpuCount', 'vcpu_count'],
    ['memoryBytes', 'memory_bytes'],
    ['diskBytes', 'disk_bytes'],
  ] as const) {
    const wanted = request[field];
    if (wanted === undefined || wanted === snapshot[field]) continue;
    const { vcpuCount, memoryBytes, diskBytes } = snapshot;
    const locked = `vcpu_count ${vcpuCount}, memory_bytes ${memoryBytes}, disk_bytes ${diskBytes}`;
    throw invalidField(name, `is locked by snapshot ${snapshot.name}, which has ${locked}`);
  }
}
