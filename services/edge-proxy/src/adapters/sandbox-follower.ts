// Hears of every sandbox that changes its state: where it was must not be taken for where it is.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '@wrenn/kit/errors';
import { type SandboxId, isSandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import type { Log } from '@wrenn/kit/log';
import { untraced } from '@wrenn/kit/telemetry/span';
import { type SandboxService, SandboxState } from '@wrenn/proto/wrenn/v1/sandbox';

export interface SandboxListener {
  setFollowing(isFollowing: boolean): void; // Whether `forget` is called for every change from now on.
  forget(id: SandboxId, isGone: boolean): void; // Gone: no guest is left that could close its connections.
}

const goneStates: ReadonlySet<SandboxState> = new Set([
  SandboxState.PAUSED,
  SandboxState.DESTROYING,
  SandboxState.DESTROYED,
  SandboxState.ERROR,
]);
const retryMs = 1000;

export class SandboxFollower {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(sandboxes: RpcClient<typeof SandboxService.method>, listeners: readonly SandboxListener[], log: Log) {
    this.#running = untraced(() => this.#run(sandboxes, listeners, log));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(
    sandboxes: RpcClient<typeof SandboxService.method>,
    listeners: readonly SandboxListener[],
    log: Log,
  ): Promise<void> {
    const { signal } = this.#stop;
    let isFirst = true;
    while (!signal.aborted) {
      const sinceMs = Date.now();
      try {
        // The header says that no later change will be missed.
        const onHeader = () => listeners.forEach((listener) => listener.setFollowing(true));
        const events = sandboxes.watchEvents({ liveOnly: true }, { signal, onHeader });
        for await (const { event } of events) {
          if (!event || !isSandboxId(event.sandboxId)) continue;
          for (const listener of listeners) listener.forget(event.sandboxId, goneStates.has(event.toState));
        }
        throw new Error('the stream ended');
      } catch (error) {
        for (const listener of listeners) listener.setFollowing(false);
        if (signal.aborted) return;
        // One line an outage, not one an attempt.
        if (isFirst || Date.now() - sinceMs > 2 * retryMs) {
          log.warn({ reason: messageOf(error) }, 'not following sandboxes, so no address is kept');
        }
        isFirst = false;
        await sleep(retryMs, undefined, { signal }).catch(() => undefined); // Aborted: the loop ends.
      }
    }
  }
}
