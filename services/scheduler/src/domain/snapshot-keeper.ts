// Sees to it that hosts keep the snapshots that are needed, and no others. A snapshot is recorded before its
// host hears of it; so what a host lists, and the database does not know afterwards, nobody needs. It is
// deleted at the second look.
import type { Clock } from '@wrenn/kit/clock';
import { inMs } from '@wrenn/kit/deadlines';
import { hasReason } from '@wrenn/kit/errors';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { inOwnTrace } from '@wrenn/kit/telemetry/span';

import type { Durability } from './durability.ts';
import { type Host, isAlive } from './host.ts';
import type { NameSnapshot } from './name-snapshot.ts';
import type { Operations } from './operations.ts';
import type { HostSnapshots, HostStore, SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';
import type { LifecycleStore, SnapshotStore } from './snapshot-ports.ts';
import type { HostSnapshot } from './snapshot.ts';

export interface SnapshotKeeperParts {
  readonly sandboxes: SandboxStore;
  readonly lifecycle: LifecycleStore;
  readonly snapshots: SnapshotStore;
  readonly hostSnapshots: HostSnapshots;
  readonly hosts: HostStore;
  readonly naming: NameSnapshot;
  readonly durability: Durability;
  readonly operations: Operations;
  readonly clock: Clock;
  readonly log: Log;
}

const listLimitMs = 5000;
const deleteLimitMs = 60_000;

export class SnapshotKeeper {
  readonly #parts: SnapshotKeeperParts;
  // What was amiss at the last look, by host.
  readonly #doubts = new Map<string, ReadonlySet<SnapshotId | SandboxId>>();

  constructor(parts: SnapshotKeeperParts) {
    this.#parts = parts;
  }

  async tick(): Promise<void> {
    const { lifecycle, snapshots, hosts, naming, durability, clock } = this.#parts;
    const alive = (await hosts.list()).filter((host) => isAlive(host, clock.now()));
    await naming.forgetUnfinished();
    await snapshots.forgetUnneeded();
    for (const { id, hostId } of await snapshots.undurable()) {
      const host = alive.find((each) => each.id === hostId);
      if (host) durability.follow(host.address, id);
    }
    const frail = await lifecycle.frail();
    await Promise.all(
      alive.map((host) =>
        this.#compare(
          host,
          frail.filter(({ hostId }) => hostId === host.id),
        ),
      ),
    );
  }

  // `frail` was read before the host is asked: what they stand on must be in its answer.
  async #compare(host: Host, frail: readonly Sandbox[]): Promise<void> {
    const { snapshots, hostSnapshots, log } = this.#parts;
    const before = this.#doubts.get(host.id);
    this.#doubts.delete(host.id);
    let listed: HostSnapshot[];
    try {
      listed = await hostSnapshots.list(host.address, inMs(listLimitMs));
    } catch (error) {
      // UNIMPLEMENTED: a host of before there were snapshots.
      if (!hasReason(error, 'SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED', 'UNIMPLEMENTED')) throw error;
      log.debug({ err: error, host: host.id }, 'host does not list its snapshots; they stay as they are');
      return;
    }
    const known = await snapshots.idsOnHost(host.id);
    // What is being written behind a pause is still read from its parent.
    const parents = new Set(listed.filter(({ isDurable }) => !isDurable).map(({ parentId }) => parentId));
    const strange = listed.map(({ id }) => id).filter((id) => !known.has(id) && !parents.has(id));
    const there = new Set(listed.map(({ id }) => id));
    const lost = frail.filter(({ snapshotId }) => snapshotId !== undefined && !there.has(snapshotId));
    this.#doubts.set(host.id, new Set([...strange, ...lost.map(({ id }) => id)]));
    for (const id of strange) if (before?.has(id)) await this.#delete(host, id);
    for (const sandbox of lost) if (before?.has(sandbox.id)) await this.#fallBack(host, sandbox, there);
  }

  async #delete(host: Host, id: SnapshotId): Promise<void> {
    const { hostSnapshots, log } = this.#parts;
    log.info({ snapshot: id, host: host.id }, 'deleting a snapshot that nobody needs');
    try {
      await inOwnTrace('delete snapshot', { 'wrenn.snapshot.id': id }, [], () =>
        hostSnapshots.delete(host.address, id, inMs(deleteLimitMs)),
      );
    } catch (error) {
      log.warn({ err: error, snapshot: id, host: host.id }, 'deleting a snapshot failed; it will be tried again');
    }
  }

  // Only a power cut loses what was not durable yet. Then the one before it stands.
  async #fallBack(host: Host, seen: Sandbox, there: ReadonlySet<SnapshotId>): Promise<void> {
    const { sandboxes, operations, log } = this.#parts;
    const operation = operations.tryBegin(seen.id);
    if (!operation) return;
    try {
      const { previousSnapshotId: previousId } = seen;
      if (await this.#isThere(host, seen.snapshotId as SnapshotId)) return;
      log.error({ sandbox: seen.id, host: host.id, snapshot: seen.snapshotId, previousId }, 'a snapshot is lost');
      if (previousId === undefined) {
        const message = `its snapshot was lost on host ${host.id} before it was durable`;
        await sandboxes.move(seen, { to: 'error', reason: 'SNAPSHOT_LOST', message });
      } else if (there.has(previousId)) {
        const snapshot = { id: previousId, isDurable: true, previousId: undefined };
        await sandboxes.move(seen, { to: 'paused', reason: 'SNAPSHOT_LOST', snapshot });
      }
      // A host that has neither lacks more than a power cut takes: its files may come back.
    } finally {
      operation.end();
    }
  }

  // Or may still be: a host keeps who asks for a snapshot that its store is about to take.
  async #isThere(host: Host, id: SnapshotId): Promise<boolean> {
    try {
      await this.#parts.hostSnapshots.get(host.address, id, { isDurable: false }, inMs(listLimitMs));
      return true;
    } catch (error) {
      if (hasReason(error, 'SNAPSHOT_NOT_FOUND')) return false;
      if (hasReason(error, 'SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED')) return true;
      throw error;
    }
  }
}
