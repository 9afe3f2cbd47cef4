// Commits one snapshot at a time, parents before their children. One that failed is tried again when somebody waits
// for it, and after a while.
import type { SnapshotId } from '@wrenn/kit/ids';
import { WrennError } from '@wrenn/kit/errors';
import { type SpanContext, currentCause } from '@wrenn/kit/telemetry/span';

export interface CommitQueueParts {
  // Rejects when the commit fails, or soon after the signal aborts.
  readonly commit: (id: SnapshotId, signal: AbortSignal, cause: SpanContext | undefined) => Promise<void>;
  readonly parentOf: (id: SnapshotId) => SnapshotId | null;
  readonly retryMs: number;
}

interface Entry {
  readonly id: SnapshotId;
  readonly cancel: AbortController;
  readonly cause: SpanContext | undefined; // What had it committed.
  readonly ended: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class CommitQueue {
  readonly #parts: CommitQueueParts;
  readonly #entries = new Map<SnapshotId, Entry>(); // Waiting or running, in order.
  readonly #failures = new Map<SnapshotId, Error>();
  #running: Entry | undefined;
  #retry: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(parts: CommitQueueParts) {
    this.#parts = parts;
  }

  add(id: SnapshotId): void {
    if (this.#entries.has(id) || this.#isClosed) return;
    this.#failures.delete(id);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    // Nobody has to wait for it: a failure is kept besides.
    promise.catch(() => undefined);
    this.#entries.set(id, {
      id,
      cancel: new AbortController(),
      cause: currentCause(),
      ended: promise,
      resolve,
      reject,
    });
    void this.#work();
  }

  // Resolves once it is committed, rejects as the commit does. What had failed is tried again, ancestors first.
  async ended(id: SnapshotId): Promise<void> {
    for (const failed of this.#failedChain(id)) this.add(failed);
    await this.#entries.get(id)?.ended;
  }

  failureOf(id: SnapshotId): Error | undefined {
    return this.#failures.get(id);
  }

  // Resolves when nothing works on it any more.
  async cancel(id: SnapshotId): Promise<void> {
    this.#failures.delete(id);
    const entry = this.#entries.get(id);
    if (!entry) return;
    entry.cancel.abort();
    if (this.#running !== entry) this.#end(entry, this.#cancelled(id));
    await entry.ended.catch(() => undefined);
    this.#failures.delete(id);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#retry);
    await Promise.all([...this.#entries.keys()].map((id) => this.cancel(id)));
  }

  async #work(): Promise<void> {
    if (this.#running) return;
    for (let entry = this.#next(); entry; entry = this.#next()) {
      this.#running = entry;
      try {
        const parent = this.#parts.parentOf(entry.id);
        const failure = parent === null ? undefined : this.#failures.get(parent);
        if (failure) throw failure;
        await this.#parts.commit(entry.id, entry.cancel.signal, entry.cause);
        this.#end(entry);
      } catch (error) {
        this.#end(entry, entry.cancel.signal.aborted ? this.#cancelled(entry.id) : (error as Error));
      } finally {
        this.#running = undefined;
      }
    }
  }

  // The oldest whose parent does not wait itself.
  #next(): Entry | undefined {
    for (const entry of this.#entries.values()) {
      const parent = this.#parts.parentOf(entry.id);
      if (parent === null || !this.#entries.has(parent)) return entry;
    }
    return undefined;
  }

  #end(entry: Entry, failure?: Error): void {
    this.#entries.delete(entry.id);
    if (!failure) {
      entry.resolve();
      return;
    }
    this.#failures.set(entry.id, failure);
    entry.reject(failure);
    this.#retryLater();
  }

  #retryLater(): void {
    if (this.#retry || this.#isClosed) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      for (const id of [...this.#failures.keys()]) this.add(id);
    }, this.#parts.retryMs);
    this.#retry.unref();
  }

  #failedChain(id: SnapshotId): SnapshotId[] {
    const chain: SnapshotId[] = [];
    for (let at: SnapshotId | null = id; at !== null; at = this.#parts.parentOf(at)) {
      if (this.#failures.has(at)) chain.unshift(at);
    }
    return chain;
  }

  #cancelled(snapshot: SnapshotId): WrennError {
    const meta = { snapshot };
    if (this.#isClosed) return new WrennError('SERVICE_UNAVAILABLE', 'the snapshot store stops', { meta });
    return new WrennError('SNAPSHOT_NOT_FOUND', `snapshot ${snapshot} was deleted before it was durable`, { meta });
  }
}
