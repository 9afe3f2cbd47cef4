// What a create may ask for. Everything is checked before anything is looked up or made.
import { invalidField } from '@wrenn/kit/errors';
import type { SnapshotId } from '@wrenn/kit/ids';
import { requireDurationWithin, requireEnv, requireName } from '@wrenn/kit/validate';
import { type SandboxServiceCreateRequest, TimeoutAction as TimeoutMessage } from '@wrenn/proto/wrenn/v1/sandbox';
import type { Duration } from '@bufbuild/protobuf/wkt';

import { type PortAccess, requirePortAccess } from './access.ts';
import type { Template, TimeoutAction } from './sandbox.ts';
import { requireDiskBytes, requireMemoryBytes, requireVcpuCount } from './vm-size.ts';

export interface CreateRequest {
  readonly project: string;
  readonly requestId: string | undefined;
  // 0: it does not wait.
  readonly queueTimeoutMs: number;
  readonly template: string;
  readonly vcpuCount: number | undefined;
  readonly memoryBytes: number | undefined;
  readonly diskBytes: number | undefined;
  readonly ttlMs: number;
  readonly env: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly onTimeout: TimeoutAction;
  readonly autoResume: boolean;
  readonly access: PortAccess;
}

// What a sandbox goes on from instead of booting.
export interface SnapshotOrigin {
  readonly id: SnapshotId;
  // By which it was asked for.
  readonly name: string;
  readonly hostId: string;
  readonly isDurable: boolean;
}

// A request with its template's values where it named none.
export interface CreateSpec {
  readonly project: string;
  readonly template: Template;
  readonly vcpuCount: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly ttlMs: number;
  readonly env: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly onTimeout: TimeoutAction;
  readonly autoResume: boolean;
  readonly access: PortAccess;
  readonly snapshot?: SnapshotOrigin;
}

const defaultProject = 'default';
const requestIdPattern = /^[A-Za-z0-9_-]{1,64}$/;
const maxQueueMs = 600_000;
const defaultTtlMs = 3_600_000;
const maxMetadataEntries = 32;

export function requireCreateRequest(request: SandboxServiceCreateRequest): CreateRequest {
  requireEnv(request.env, 'env');
  requireMetadata(request.metadata);
  return {
    project: request.project === '' ? defaultProject : requireName(request.project, 'project'),
    requestId: request.requestId === '' ? undefined : requireRequestId(request.requestId),
    queueTimeoutMs: request.queueTimeout
      ? requireDurationWithin(request.queueTimeout, 'queue_timeout', 0, maxQueueMs)
      : 0,
    template: requireName(request.template, 'template'),
    vcpuCount: request.vcpuCount === 0 ? undefined : requireVcpuCount(request.vcpuCount, 'vcpu_count'),
    memoryBytes: request.memoryBytes === 0n ? undefined : requireMemoryBytes(request.memoryBytes, 'memory_bytes'),
    diskBytes: request.diskBytes === 0n ? undefined : requireDiskBytes(request.diskBytes, 'disk_bytes'),
    ttlMs: request.ttl ? requireTtl(request.ttl) : defaultTtlMs,
    env: request.env,
    metadata: request.metadata,
    onTimeout: requireTimeoutAction(request.onTimeout),
    autoResume: request.autoResume,
    access: requirePortAccess(request),
  };
}

export function requireTtl(ttl: Duration): number {
  return Math.round(requireDurationWithin(ttl, 'ttl', 1000, 86_400_000));
}

export function specOf(request: CreateRequest, template: Template): CreateSpec {
  return {
    project: request.project,
    template,
    vcpuCount: request.vcpuCount ?? template.vcpuCount,
    memoryBytes: request.memoryBytes ?? template.memoryBytes,
    diskBytes: request.diskBytes ?? template.diskBytes,
    ttlMs: request.ttlMs,
    env: request.env,
    metadata: request.metadata,
    onTimeout: request.onTimeout,
    autoResume: request.autoResume,
    access: request.access,
  };
}

function requireTimeoutAction(action: TimeoutMessage): TimeoutAction {
  if (action === TimeoutMessage.PAUSE) return 'pause';
  if (action === TimeoutMessage.DESTROY || action === TimeoutMessage.UNSPECIFIED) return 'destroy';
  throw invalidField('on_timeout', `${String(action)} is nothing to do with a sandbox`);
}

export function requireRequestId(value: string): string {
  if (!requestIdPattern.test(value)) throw invalidField('request_id', 'must be 1 to 64 characters A-Z, a-z, 0-9, _, -');
  return value;
}

export function requireMetadata(metadata: Readonly<Record<string, string>>): void {
  const entries = Object.entries(metadata);
  if (entries.length > maxMetadataEntries) {
    throw invalidField('metadata', `must have at most ${maxMetadataEntries} entries`);
  }
  for (const [key, value] of entries) {
    const shown = JSON.stringify(key.slice(0, 63));
    if (key.length < 1 || key.length > 63)
      throw invalidField('metadata', `the key ${shown} must be 1 to 63 characters`);
    if (value.length > 256) throw invalidField('metadata', `the value of ${shown} must be at most 256 characters`);
    if (key.includes('\0') || value.includes('\0')) throw invalidField('metadata', `${shown} holds a NUL`);
  }
}
