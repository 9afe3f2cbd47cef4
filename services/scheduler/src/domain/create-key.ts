// What makes a create the same create: the caller's id for it, within a project, for 24 h. The digest
// tells a repetition from another request under the same id.
import { createHash } from 'node:crypto';

import { WrennError } from '@wrenn/kit/errors';

import type { CreateRequest } from './create-request.ts';

export interface CreateKey {
  readonly project: string;
  readonly requestId: string;
  readonly digest: string;
}

export const keyKeptMs = 86_400_000;

// How long to wait for room is no part of what is asked for.
export function createKeyOf(request: CreateRequest): CreateKey | undefined {
  const { project, requestId, template, vcpuCount, memoryBytes, diskBytes, ttlMs, env, metadata } = request;
  if (requestId === undefined) return undefined;
  const { onTimeout, autoResume, access } = request;
  const parts: unknown[] = [template, vcpuCount, memoryBytes, diskBytes, ttlMs, sorted(env), sorted(metadata)];
  // Only where they say something: a request without them stays the same request across versions.
  if (onTimeout !== 'destroy' || autoResume) parts.push(onTimeout, autoResume);
  if (access.isSecure) parts.push('secure', access.publicPorts);
  const canonical = JSON.stringify(parts.map((part) => part ?? null));
  return { project, requestId, digest: createHash('sha256').update(canonical).digest('hex') };
}

export function requestIdReused({ requestId }: CreateKey): WrennError {
  const message = `request_id ${requestId} was used for a different request within the last 24 h`;
  return new WrennError('REQUEST_ID_REUSED', message, { meta: { request_id: requestId } });
}

function sorted(map: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(map).toSorted(([a], [b]) => (a < b ? -1 : 1));
}
