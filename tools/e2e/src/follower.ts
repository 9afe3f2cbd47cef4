// Reads the output of a process as a careful client does: when its stream breaks it connects anew behind the last
// sequence it has seen, so that it gets everything once, whatever restarts in between.
import { setTimeout as sleep } from 'node:timers/promises';

import type { MeshClient } from '@wrenn/cli/client';
import { type Reason, hasReason } from '@wrenn/kit/errors';
import type { ProcessEvent } from '@wrenn/proto/wrenn/v1/process';

const passing: readonly Reason[] = ['SERVICE_UNAVAILABLE', 'AGENT_UNREACHABLE', 'DATABASE_UNAVAILABLE', 'CANCELLED'];
const retryPauseMs = 50;

export class Follower {
  // Resolves to the whole of what the process printed once it has ended; rejects at a gap or a lasting failure.
  readonly whole: Promise<string>;
  reconnectCount = 0;
  #text = '';
  #sequence = 0n;

  // Of the process with the tag, which must have been started already.
  constructor(client: MeshClient, sandboxId: string, tag: string) {
    this.whole = this.#follow(client, sandboxId, tag);
    this.whole.catch(() => undefined); // Whoever awaits it hears of it.
  }

  get lineCount(): number {
    return this.#text.split('\n').length - 1;
  }

  async #follow(client: MeshClient, sandboxId: string, tag: string): Promise<string> {
    const process = { selector: { case: 'tag' as const, value: tag } };
    for (;;) {
      try {
        const stream = client.processes.connect({ sandboxId, process, afterSequence: this.#sequence });
        for await (const { event } of stream) if (event && this.#hasEnded(event)) return this.#text;
      } catch (error) {
        if (!hasReason(error, ...passing)) throw error;
      }
      this.reconnectCount += 1;
      await sleep(retryPauseMs);
    }
  }

  #hasEnded({ event, sequence }: ProcessEvent): boolean {
    if (event.case === 'started') return false;
    if (sequence !== this.#sequence + 1n) throw new Error(`${sequence} came behind ${this.#sequence}`);
    this.#sequence = sequence;
    if (event.case === 'stdout') this.#text += Buffer.from(event.value).toString();
    return event.case === 'exited';
  }
}
