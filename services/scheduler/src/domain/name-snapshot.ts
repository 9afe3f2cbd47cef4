// Makes named snapshots. The name is taken before the guest is frozen, and whoever fails gives it back; it
// is known to others once the snapshot is durable.
import { createHash } from 'node:crypto';

import { within } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { type SandboxId, type SnapshotId, newSnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import { type CreateKey, requestIdReused } from './create-key.ts';
import type { Durability } from './durability.ts';
import type { LiveSnapshot } from './live-snapshot.ts';
import { requireRunning, sandboxNotFound, stateConflict } from './lookup.ts';
import type { OnceTerms } from './once.ts';
import type { Operations } from './operations.ts';
import type { HostStore, SandboxStore } from './ports.ts';
import { requireHost } from './require-host.ts';
import type { Sandbox } from './sandbox.ts';
import type { SnapshotNames } from './snapshot-ports.ts';
import type { NamedSnapshot } from './snapshot.ts';

export interface NameSnapshotParts {
  readonly sandboxes: SandboxStore;
  readonly names: SnapshotNames;
  readonly hosts: HostStore;
  readonly live: LiveSnapshot;
  readonly durability: Durability;
  readonly operations: Operations;
  readonly log: Log;
}

export interface NameRequest {
  readonly sandboxId: SandboxId;
  readonly name: string;
  readonly requestId: string | undefined;
}

export const nameLimitMs = 600_000;

export function nameKeyOf({ sandboxId, name, requestId }: NameRequest, project: string): CreateKey | undefined {
  if (requestId === undefined) return undefined;
  const digest = createHash('sha256')
    .update(JSON.stringify(['snapshot', sandboxId, name]))
    .digest('hex');
  return { project, requestId, digest };
}

export class NameSnapshot {
  readonly #parts: NameSnapshotParts;
  // What is undurable in the database and not here is a leftover.
  readonly #making = new Set<string>();

  constructor(parts: NameSnapshotParts) {
    this.#parts = parts;
  }

  async run(request: NameRequest, terms: OnceTerms): Promise<NamedSnapshot> {
    const { name } = request;
    if (this.#making.has(name)) {
      throw new WrennError('SNAPSHOT_EXISTS', `a snapshot ${name} is being made`, { meta: { snapshot: name } });
    }
    this.#making.add(name);
    try {
      const known = await this.#known(request);
      const made = known && (await this.#made(known.id, request, terms).catch(whenNeverMade));
      return made ?? (await this.#made(await this.#begin(request, terms), request, terms));
    } finally {
      this.#making.delete(name);
    }
  }

  // Gives back names for which nobody makes a snapshot any more.
  async forgetUnfinished(): Promise<void> {
    for (const { name, id } of await this.#parts.names.unfinished()) {
      if (!this.#making.has(name)) await this.#parts.names.unname(name, id, { unlessDurable: true });
    }
  }

  // What an earlier call with the same id made, or began to make.
  async #known({ sandboxId, name, requestId }: NameRequest): Promise<NamedSnapshot | undefined> {
    const source = await this.#parts.sandboxes.find(sandboxId);
    if (!source || requestId === undefined) return undefined;
    const known = await this.#parts.names.findByRequest(source.project, requestId);
    if (!known) return undefined;
    const isSame = known.namedOf === sandboxId && known.name === name;
    if (!isSame) throw requestIdReused({ project: source.project, requestId, digest: '' });
    return known;
  }

  async #begin(request: NameRequest, terms: OnceTerms): Promise<SnapshotId> {
    for (;;) {
      const seen = await this.#parts.sandboxes.find(request.sandboxId);
      if (!seen || seen.state === 'destroyed' || seen.state === 'destroying') {
        throw sandboxNotFound(request.sandboxId);
      }
      if (seen.state === 'pausing' || seen.state === 'resuming') throw stateConflict(seen);
      if (seen.state !== 'paused') requireRunning(seen, seen.id);
      const id =
        seen.state === 'paused'
          ? await this.#parts.names.nameOwn(seen, request)
          : await this.#freeze(seen, request, terms);
      if (id === undefined) continue;
      terms.onPlaced();
      return id;
    }
  }

  // Undefined when it has to be looked at anew.
  async #freeze({ id }: Sandbox, request: NameRequest, { caller }: OnceTerms): Promise<SnapshotId | undefined> {
    const { sandboxes, names, live, operations } = this.#parts;
    const operation = await operations.turn(id, caller.signal);
    try {
      const seen = await sandboxes.find(id);
      if (seen?.state !== 'running' || !(await live.settle(seen, 'snapshot', operation))) return undefined;
      const snapshotId = await names.nameNext(seen, newSnapshotId(), request);
      if (snapshotId === undefined) return undefined;
      try {
        await live.take(seen, snapshotId, operation);
      } catch (error) {
        await this.#unname(request.name, snapshotId);
        throw error;
      }
      return snapshotId;
    } finally {
      operation.end();
    }
  }

  async #made(id: SnapshotId, { name }: NameRequest, { caller }: OnceTerms): Promise<NamedSnapshot> {
    const { names, hosts, durability } = this.#parts;
    try {
      const [found] = (await names.unfinished()).filter((each) => each.id === id && each.name === name);
      if (found) {
        const { address } = await requireHost(hosts, found.hostId);
        await durability.wait(address, id, within(caller, nameLimitMs));
      }
      const named = await names.find(name);
      if (named?.id === id) return named;
      throw new WrennError('STATE_CONFLICT', `snapshot ${name} was deleted meanwhile`, { meta: { snapshot: name } });
    } catch (error) {
      // It stays the source's own; only the name goes.
      if (!hasReason(error, 'STATE_CONFLICT')) await this.#unname(name, id);
      throw error;
    }
  }

  async #unname(name: string, id: SnapshotId): Promise<void> {
    try {
      await this.#parts.names.unname(name, id, { unlessDurable: false });
    } catch (error) {
      this.#parts.log.warn({ err: error, snapshot: name }, 'a name is given back later');
    }
  }
}

// An earlier call ended, with its scheduler, before its host heard of it.
function whenNeverMade(error: unknown): undefined {
  if (!hasReason(error, 'SNAPSHOT_NOT_FOUND')) throw error;
}
