// A snapshot of a sandbox that runs, and goes on from it. Before anything else is done to a sandbox it is
// settled what became of the last one: what a VM goes on from must not be forgotten.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import type { Durability } from './durability.ts';
import { destroyedMeanwhile } from './lookup.ts';
import type { Operation } from './operations.ts';
import type { Host } from './host.ts';
import type { Frozen, HostSnapshots, HostStore, HostVms } from './ports.ts';
import { requireHost } from './require-host.ts';
import type { Sandbox } from './sandbox.ts';
import type { SnapshotStore } from './snapshot-ports.ts';
import { isUnsure } from './unsure.ts';

export interface LiveSnapshotParts {
  readonly snapshots: SnapshotStore;
  readonly hosts: HostStore;
  readonly vms: HostVms;
  readonly hostSnapshots: HostSnapshots;
  readonly durability: Durability;
  readonly log: Log;
}

const freezeLimitMs = 60_000;
const askLimitMs = 5000;

export class LiveSnapshot {
  readonly #parts: LiveSnapshotParts;
  readonly #closing = new AbortController();

  constructor(parts: LiveSnapshotParts) {
    this.#parts = parts;
  }

  // Has its host make a snapshot that is recorded as the sandbox's next one.
  async take(source: Sandbox, snapshotId: SnapshotId, operation: Operation): Promise<Frozen> {
    const { snapshots, hosts, vms, durability, log } = this.#parts;
    const host = await requireHost(hosts, source.hostId);
    try {
      const freezing = { sandboxId: source.id, snapshotId, keepRunning: true };
      const signal = AbortSignal.any([operation.signal, this.#closing.signal]);
      const frozen = await vms.freeze(host.address, freezing, inMs(freezeLimitMs, signal));
      await failpoint('scheduler.live.frozen');
      if (!(await snapshots.adopt(source.id, snapshotId, frozen.isDurable))) throw destroyedMeanwhile(source.id);
      await failpoint('scheduler.live.adopted');
      if (!frozen.isDurable) durability.follow(host.address, snapshotId);
      return frozen;
    } catch (error) {
      if (operation.signal.aborted) throw destroyedMeanwhile(source.id);
      if (this.#closing.signal.aborted) throw this.#closing.signal.reason;
      log.warn({ err: error, sandbox: source.id, snapshot: snapshotId }, 'live snapshot failed');
      // Where it is not sure that nothing came of it, the next operation or the reconciler settles it.
      if (!isUnsure(error)) await this.#abandonIfAbsent(host, source, snapshotId);
      throw error;
    }
  }

  // True when the sandbox, as it was seen, is fit for the next operation; false when it has to be looked at anew.
  async settle(seen: Sandbox, wanted: 'pause' | 'snapshot', operation: Operation): Promise<boolean> {
    const { snapshots, hosts } = this.#parts;
    if (seen.state !== 'running' || seen.nextSnapshotId === undefined) return true;
    const next = await snapshots.find(seen.nextSnapshotId);
    if (next?.keepsRunning) {
      // Asking for the same one again tells: it is there then, or it failed.
      await this.take(seen, next.id, operation).catch(async (error: unknown) => {
        if (isUnsure(error)) throw error;
        if (await this.#isThere(await requireHost(hosts, seen.hostId), next.id)) throw notGoneOn(seen);
      });
      return false;
    }
    // The pause that did not come about may still do; only another pause can join it.
    if (wanted === 'pause') return true;
    const message = `an earlier pause of ${seen.id} may still happen; try again in two minutes`;
    throw new WrennError('STATE_CONFLICT', message, { meta: { state: 'pausing' } });
  }

  // Gives up those in progress; the next life finds out what became of them.
  close(): void {
    this.#closing.abort(new WrennError('SERVICE_UNAVAILABLE', 'the scheduler is stopping'));
  }

  // One that was frozen and did not go on has nothing but this snapshot.
  async #abandonIfAbsent(host: Host, { id }: Sandbox, snapshotId: SnapshotId): Promise<void> {
    try {
      if (!(await this.#isThere(host, snapshotId))) await this.#parts.snapshots.abandon(id, snapshotId);
    } catch (error) {
      this.#parts.log.warn({ err: error, sandbox: id }, 'a failed live snapshot is left to the reconciler');
    }
  }

  async #isThere({ address }: Host, id: SnapshotId): Promise<boolean> {
    try {
      await this.#parts.hostSnapshots.get(address, id, { isDurable: false }, inMs(askLimitMs));
      return true;
    } catch (error) {
      if (hasReason(error, 'SNAPSHOT_NOT_FOUND')) return false;
      throw error;
    }
  }
}

function notGoneOn({ id }: Sandbox): WrennError {
  const message = `${id} did not go on from its last snapshot; it is paused on it in a moment`;
  return new WrennError('STATE_CONFLICT', message, { meta: { state: 'pausing' } });
}
