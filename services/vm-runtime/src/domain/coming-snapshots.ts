// The store's snapshots, and with them those that it is still to take: a paused VM's files are its snapshot from the
// moment they are frozen, so whoever asks for one waits until the store has it.
import { setTimeout as sleep } from 'node:timers/promises';

import type { OutboundCall } from '@wrenn/kit/deadlines';
import type { SandboxId, SnapshotId } from '@wrenn/kit/ids';

import type { Snapshots, StageRequest } from './snapshot.ts';

const longestTimerMs = 2 ** 31 - 1;

export class ComingSnapshots implements Snapshots {
  readonly #store: Snapshots;
  readonly #coming = new Map<SnapshotId, Promise<void>>();

  constructor(store: Snapshots) {
    this.#store = store;
  }

  // `staging` settles when the store has it, or never will.
  expect(id: SnapshotId, staging: Promise<unknown>): void {
    const over = staging.then(
      () => undefined,
      () => undefined,
    );
    this.#coming.set(id, over);
    void over.then(() => this.#coming.delete(id));
  }

  stage(request: StageRequest, call: OutboundCall) {
    return this.#store.stage(request, call);
  }

  async open(id: SnapshotId, diskId: SandboxId, call: OutboundCall) {
    await this.#untilHere(id, call);
    return this.#store.open(id, diskId, call);
  }

  async get(id: SnapshotId, waitDurable: boolean, call: OutboundCall) {
    await this.#untilHere(id, call);
    return this.#store.get(id, waitDurable, call);
  }

  // Those that are coming are not listed yet.
  list(call: OutboundCall) {
    return this.#store.list(call);
  }

  async delete(id: SnapshotId, call: OutboundCall): Promise<void> {
    await this.#untilHere(id, call);
    return this.#store.delete(id, call);
  }

  // Or until the call is over, which the store's client then tells.
  async #untilHere(id: SnapshotId, { deadlineAtMs = Infinity, signal }: OutboundCall): Promise<void> {
    const coming = this.#coming.get(id);
    if (!coming) return;
    const here = new AbortController();
    const ended = signal ? AbortSignal.any([signal, here.signal]) : here.signal;
    const limitMs = Math.max(0, Math.min(longestTimerMs, deadlineAtMs - Date.now()));
    await Promise.race([coming, sleep(limitMs, undefined, { signal: ended }).catch(() => undefined)]);
    here.abort();
  }
}
