// Hears of each snapshot when a power cut cannot lose it any more, and records it. What is not known when
// this process ends, the next one asks again.
import type { Clock } from '@wrenn/kit/clock';
import { type OutboundCall, inMs } from '@wrenn/kit/deadlines';
import { WrennError, hasReason } from '@wrenn/kit/errors';
import type { SnapshotId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';
import { currentCause, inOwnTrace } from '@wrenn/kit/telemetry/span';

import type { HostSnapshots } from './ports.ts';
import type { SnapshotStore } from './snapshot-ports.ts';
import type { HostSnapshot } from './snapshot.ts';

export interface DurabilityParts {
  readonly snapshots: SnapshotStore;
  readonly hostSnapshots: HostSnapshots;
  readonly clock: Clock;
  readonly log: Log;
}

const followLimitMs = 600_000;
// A commit that failed is tried again by asking: not too often on a full disk.
const retryMs = 30_000;

export class Durability {
  readonly #parts: DurabilityParts;
  readonly #closing = new AbortController();
  readonly #followed = new Set<SnapshotId>();
  readonly #notBeforeMs = new Map<SnapshotId, number>();

  constructor(parts: DurabilityParts) {
    this.#parts = parts;
  }

  // Waits for it on behalf of a caller. Throws SNAPSHOT_NOT_FOUND, DISK_FULL, SNAPSHOT_CORRUPT.
  async wait(address: string, id: SnapshotId, call: OutboundCall): Promise<HostSnapshot> {
    const { snapshots, hostSnapshots } = this.#parts;
    const snapshot = await hostSnapshots.get(address, id, { isDurable: true }, call);
    if (!snapshot.isDurable) {
      throw new WrennError('SERVICE_UNAVAILABLE', `snapshot ${id} is not durable yet: ${snapshot.problem}`);
    }
    await snapshots.markDurable(id, snapshot.generation);
    return snapshot;
  }

  // Waits for it on behalf of nobody; it does so once at a time.
  follow(address: string, id: SnapshotId): void {
    const nowMs = () => this.#parts.clock.now().getTime();
    const isEarly = nowMs() < (this.#notBeforeMs.get(id) ?? 0);
    if (isEarly || this.#followed.has(id) || this.#closing.signal.aborted) return;
    this.#followed.add(id);
    inOwnTrace('await durable', { 'wrenn.snapshot.id': id }, [currentCause()], () =>
      this.wait(address, id, inMs(followLimitMs, this.#closing.signal)),
    )
      .then(
        () => void this.#notBeforeMs.delete(id),
        (error: unknown) => {
          // What is gone is dealt with by whoever compares the host with the database.
          if (this.#closing.signal.aborted || hasReason(error, 'SNAPSHOT_NOT_FOUND')) return;
          const isPassing = hasReason(error, 'SERVICE_UNAVAILABLE', 'DATABASE_UNAVAILABLE');
          if (!isPassing) this.#notBeforeMs.set(id, nowMs() + retryMs);
          this.#parts.log.warn({ err: error, snapshot: id }, 'a snapshot is not durable yet');
        },
      )
      .finally(() => this.#followed.delete(id));
  }

  close(): void {
    this.#closing.abort();
  }
}
