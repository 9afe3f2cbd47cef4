// Which sandbox a caller's request_id stands for. Claim and record happen in the transaction that places
// the sandbox, under a lock per id, so of two creates with one id only one places.
import type { Knex } from 'knex';

import { type CreateKey, keyKeptMs, requestIdReused } from '../domain/create-key.ts';
import { isLive } from '../domain/sandbox-state.ts';
import type { Sandbox } from '../domain/sandbox.ts';
import { type SandboxRow, sandboxOf } from './sandbox-row.ts';

interface RequestRow {
  readonly project: string;
  readonly request_id: string;
  readonly digest: string;
  readonly sandbox_id: string;
  readonly created_at: Date;
}

// Any number that no other two-part lock of the database takes.
const lockKey = 7_236_003;

// The sandbox that the key stands for, or undefined when the key is free and now the caller's to record.
export async function claimKey(tx: Knex.Transaction, key: CreateKey, now: Date): Promise<Sandbox | undefined> {
  await tx.raw('select pg_advisory_xact_lock(?, hashtext(?))', [lockKey, `${key.project}/${key.requestId}`]);
  return findByKey(tx, key, now);
}

// The sandbox that the key stands for just now.
export async function findByKey(db: Knex, key: CreateKey, now: Date): Promise<Sandbox | undefined> {
  const { project, requestId } = key;
  const known = await db<RequestRow>('create_requests').where({ project, request_id: requestId }).first();
  if (!known || known.created_at.getTime() <= now.getTime() - keyKeptMs) return undefined;
  if (known.digest !== key.digest) throw requestIdReused(key);
  const row = await db<SandboxRow>('sandboxes').where({ id: known.sandbox_id }).first();
  if (!row) return undefined;
  const sandbox = sandboxOf(row);
  // One that ended before it ever ran was a create that failed, and left nothing.
  return isLive(sandbox.state) || sandbox.guestAddress !== '' ? sandbox : undefined;
}

export async function recordKey(tx: Knex.Transaction, key: CreateKey, sandbox: Sandbox): Promise<void> {
  const row = {
    project: key.project,
    request_id: key.requestId,
    digest: key.digest,
    sandbox_id: sandbox.id,
    created_at: sandbox.createdAt,
  };
  await tx('create_requests').insert(row).onConflict(['project', 'request_id']).merge();
}

export async function forgetKeys(db: Knex, now: Date): Promise<void> {
  await db('create_requests')
    .where('created_at', '<=', new Date(now.getTime() - keyKeptMs))
    .delete();
}
