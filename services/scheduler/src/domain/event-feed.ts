// Gives each watcher every event behind its position, once and in order. The bell only wakes; what is
// given comes from the table, so a lost or doubled ring changes nothing.
import { WrennError } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';

import type { Bell, EventSource } from './ports.ts';
import type { SandboxEvent } from './sandbox.ts';

export interface Watch {
  readonly sandboxId: SandboxId | undefined;
  // 'now': what is committed from now on.
  readonly after: bigint | 'now';
  readonly signal: AbortSignal;
  // Called once the position is fixed: whatever is committed behind it will be given.
  readonly onPosition: (position: bigint) => void;
}

const pageSize = 256;

export class EventFeed {
  readonly #events: EventSource;
  readonly #bell: Bell;
  readonly #closing = new AbortController();

  constructor(events: EventSource, bell: Bell) {
    this.#events = events;
    this.#bell = bell;
  }

  async *watch({ sandboxId, after, signal, onPosition }: Watch): AsyncGenerator<SandboxEvent, void, undefined> {
    const until = AbortSignal.any([signal, this.#closing.signal]);
    const subscription = this.#bell.subscribe(sandboxId);
    try {
      let position = after === 'now' ? await this.#events.newestSequence() : after;
      onPosition(position);
      while (!until.aborted) {
        const page = await this.#events.read(position, sandboxId, pageSize);
        for (const event of page) {
          yield event;
          position = event.sequence;
        }
        if (page.length < pageSize) await subscription.rung(until);
      }
    } finally {
      subscription.close();
    }
    if (!signal.aborted) throw new WrennError('SERVICE_UNAVAILABLE', 'the scheduler is stopping');
  }

  // Ends every watch.
  close(): void {
    this.#closing.abort();
  }
}
