// Hears of every sandbox that changes its state, and has its address forgotten.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '@wrenn/kit/errors';
import { isSandboxId } from '@wrenn/kit/ids';
import type { RpcClient } from '@wrenn/kit/lanes';
import type { Log } from '@wrenn/kit/log';
import type { SandboxService } from '@wrenn/proto/wrenn/v1/sandbox';

import type { SandboxAddresses } from './sandbox-addresses.ts';

const retryMs = 1000;

export class SandboxFollower {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(sandboxes: RpcClient<typeof SandboxService.method>, addresses: SandboxAddresses, log: Log) {
    this.#running = this.#run(sandboxes, addresses, log);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(sandboxes: RpcClient<typeof SandboxService.method>, addresses: SandboxAddresses, log: Log): Promise<void> {
    const { signal } = this.#stop;
    let isFirst = true;
    while (!signal.aborted) {
      const sinceMs = Date.now();
      try {
        // The header says that no later change will be missed.
        const onHeader = () => addresses.setFollowing(true);
        const events = sandboxes.watchEvents({ liveOnly: true }, { signal, onHeader });
        for await (const { event } of events) {
          if (event && isSandboxId(event.sandboxId)) addresses.forget(event.sandboxId);
        }
        throw new Error('the stream ended');
      } catch (error) {
        addresses.setFollowing(false);
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
