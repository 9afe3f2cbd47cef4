// What a fork may ask for. Everything is checked before anything is looked up or made.
import { createHash } from 'node:crypto';

import { requireEnv, requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import type { SandboxId } from '@wrenn/kit/ids';
import type { SandboxServiceForkRequest } from '@wrenn/proto/wrenn/v1/sandbox';

import type { CreateKey } from './create-key.ts';
import { requireMetadata, requireRequestId, requireTtl } from './create-request.ts';
import type { Settings } from './snapshot.ts';

export interface ForkSpec {
  readonly sandboxId: SandboxId;
  readonly count: number;
  // Undefined: the source's.
  readonly ttlMs: number | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly requestId: string | undefined;
}

export function requireForkRequest(request: SandboxServiceForkRequest): ForkSpec {
  requireEnv(request.env, 'env');
  requireMetadata(request.metadata);
  return {
    sandboxId: requireSandboxId(request.sandboxId),
    count: request.count === 0 ? 1 : requireWithin(request.count, 'count', 1, 64),
    ttlMs: request.ttl ? requireTtl(request.ttl) : undefined,
    env: request.env,
    metadata: request.metadata,
    requestId: request.requestId === '' ? undefined : requireRequestId(request.requestId),
  };
}

// It counts against its source's project, so the id is one of that project's.
export function forkKeyOf(spec: ForkSpec, project: string): CreateKey | undefined {
  if (spec.requestId === undefined) return undefined;
  const parts = ['fork', spec.sandboxId, spec.count, spec.ttlMs ?? null, sorted(spec.env), sorted(spec.metadata)];
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest('hex');
  return { project, requestId: spec.requestId, digest };
}

export function withAdded({ env, defaultUser }: Settings, added: Readonly<Record<string, string>>): Settings {
  const merged = { ...env, ...added };
  requireEnv(merged, 'env');
  return { env: merged, defaultUser };
}

function sorted(map: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
