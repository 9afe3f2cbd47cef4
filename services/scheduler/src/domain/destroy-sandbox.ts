// Destroys a sandbox. The claim is a compare-and-set, so of many who try one moves it to `destroying`
// and all wait for the same release. A release outlives its callers; one that fails is taken up again.
import { inMs } from '@wrenn/kit/deadlines';
import { WrennError } from '@wrenn/kit/errors';
import { failpoint } from '@wrenn/kit/failpoint';
import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import { sandboxNotFound } from './lookup.ts';
import type { Operations } from './operations.ts';
import type { HostSnapshots, HostStore, HostVms, SandboxStore } from './ports.ts';
import type { Sandbox } from './sandbox.ts';
import type { SnapshotStore } from './snapshot-ports.ts';
import { whileCalled } from './while-called.ts';

export interface DestroySandboxParts {
  readonly sandboxes: SandboxStore;
  readonly hosts: HostStore;
  readonly vms: HostVms;
  readonly snapshots: SnapshotStore;
  readonly hostSnapshots: HostSnapshots;
  readonly operations: Operations;
  readonly log: Log;
}

export const destroyLimitMs = 60_000;

export class DestroySandbox {
  readonly #parts: DestroySandboxParts;
  readonly #closing = new AbortController();
  readonly #releases = new Map<SandboxId, Promise<Sandbox>>();

  constructor(parts: DestroySandboxParts) {
    this.#parts = parts;
  }

  // Returns once every resource is released, or throws when the caller leaves before that.
  async run(id: SandboxId, caller: AbortSignal): Promise<Sandbox> {
    for (;;) {
      const seen = await this.#parts.sandboxes.find(id);
      if (!seen) throw sandboxNotFound(id);
      if (seen.state === 'destroyed') return seen;
      const claimed = seen.state === 'destroying' ? seen : await this.claim(seen, 'REQUESTED');
      if (claimed) {
        return whileCalled(this.release(claimed), caller, 'the caller left; the sandbox is being destroyed');
      }
    }
  }

  // Undefined when the sandbox is not as it was seen any more.
  claim(seen: Sandbox, reason: string): Promise<Sandbox | undefined> {
    return this.#parts.sandboxes.move(seen, { to: 'destroying', reason });
  }

  // Releases what a claimed sandbox holds; a second call joins the first.
  release(claimed: Sandbox): Promise<Sandbox> {
    const running = this.#releases.get(claimed.id);
    if (running) return running;
    const release = this.#release(claimed).finally(() => this.#releases.delete(claimed.id));
    this.#releases.set(claimed.id, release);
    // Callers may all have left by the time it fails.
    release.catch((error: unknown) => {
      this.#parts.log.warn({ err: error, sandbox: claimed.id }, 'destroy failed; the reconciler takes it up again');
    });
    return release;
  }

  // Gives up releases in progress; the next life takes them up again.
  close(): void {
    this.#closing.abort();
  }

  async #release(claimed: Sandbox): Promise<Sandbox> {
    const { sandboxes, hosts, vms, snapshots, hostSnapshots, operations } = this.#parts;
    const operation = await operations.takeOver(claimed.id);
    try {
      await failpoint('scheduler.destroy.claimed');
      const host = claimed.hostId === undefined ? undefined : await hosts.find(claimed.hostId);
      const call = inMs(destroyLimitMs, this.#closing.signal);
      if (host) await vms.destroy(host.address, claimed.id, call);
      // What a host does not delete now, it is asked to again: nobody needs it any more.
      for (const id of await snapshots.release(claimed.id)) {
        if (host) await hostSnapshots.delete(host.address, id, call);
      }
      await failpoint('scheduler.destroy.released');
      const destroyed = await sandboxes.move(claimed, { to: 'destroyed', reason: 'RELEASED' });
      await failpoint('scheduler.destroy.recorded');
      if (destroyed) return destroyed;
      const now = await sandboxes.find(claimed.id);
      if (now?.state === 'destroyed') return now;
      throw new WrennError('STATE_CONFLICT', `${claimed.id} changed while it was destroyed`);
    } finally {
      operation.end();
    }
  }
}
