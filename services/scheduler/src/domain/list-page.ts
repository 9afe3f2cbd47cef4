// One page of sandboxes, newest first. A page token is the position of the last one given.
import { invalidField } from '@wrenn/kit/errors';
import { isSandboxId } from '@wrenn/kit/ids';
import { requireWithin } from '@wrenn/kit/validate';

import type { Position, SandboxStore } from './ports.ts';
import { type SandboxState, liveStates } from './sandbox-state.ts';
import type { Sandbox } from './sandbox.ts';

export interface Page {
  readonly sandboxes: readonly Sandbox[];
  readonly nextToken: string;
}

const defaultSize = 100;
const maxSize = 1000;
// A message may have 4 MiB; a record without its metadata takes well under 1 KiB.
const maxMetadataBytes = 2 * 1024 * 1024;

export async function listPage(
  store: Pick<SandboxStore, 'list'>,
  states: readonly SandboxState[],
  pageSize: number,
  pageToken: string,
): Promise<Page> {
  const size = pageSize === 0 ? defaultSize : requireWithin(pageSize, 'page_size', 1, maxSize);
  const behind = pageToken === '' ? undefined : positionOf(pageToken);
  const found = await store.list({ states: states.length > 0 ? states : liveStates, behind, limit: size + 1 });
  const fitting = found.slice(0, Math.min(size, countWithin(found, maxMetadataBytes)));
  const last = fitting.at(-1);
  return { sandboxes: fitting, nextToken: last && fitting.length < found.length ? tokenOf(last) : '' };
}

function countWithin(sandboxes: readonly Sandbox[], maxBytes: number): number {
  let bytes = 0;
  const tooMany = sandboxes.findIndex(({ metadata }) => {
    for (const [key, value] of Object.entries(metadata)) bytes += Buffer.byteLength(key) + Buffer.byteLength(value) + 8;
    return bytes > maxBytes;
  });
  return tooMany === -1 ? sandboxes.length : tooMany;
}

function tokenOf({ createdAt, id }: Position): string {
  return Buffer.from(`${createdAt.getTime()} ${id}`).toString('base64url');
}

function positionOf(token: string): Position {
  const [atMs = '', id = '', ...rest] = Buffer.from(token, 'base64url').toString().split(' ');
  if (!/^\d{1,15}$/.test(atMs) || !isSandboxId(id) || rest.length > 0) {
    throw invalidField('page_token', 'must be the next_page_token of an earlier answer');
  }
  return { createdAt: new Date(Number(atMs)), id };
}
