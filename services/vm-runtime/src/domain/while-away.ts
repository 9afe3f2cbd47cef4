// Asks a peer again and again while it is away, cut off or full: for what a VM that was frozen stands or falls by.
import { setTimeout as sleep } from 'node:timers/promises';

import { hasReason } from '@wrenn/kit/errors';
import type { Log } from '@wrenn/kit/log';
import { addEvent } from '@wrenn/kit/telemetry/span';

// Of these it is not said that it will not be done.
const passing = ['SERVICE_UNAVAILABLE', 'DEADLINE_EXCEEDED', 'CANCELLED', 'DISK_FULL'] as const;
const pausesMs = [50, 200, 1000] as const;

export interface WhileAway<T> {
  readonly ask: (attempt: number) => Promise<T>;
  readonly signal: AbortSignal;
  readonly log: Log;
}

export async function whileAway<T>({ ask, signal, log }: WhileAway<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await ask(attempt);
    } catch (error) {
      if (signal.aborted || !hasReason(error, ...passing)) throw error;
      addEvent('retry', { 'error.type': error.reason, 'wrenn.attempt': attempt + 1 });
      log.warn({ err: error }, 'a peer does not do what a frozen vm needs; asking again');
      await sleep(pausesMs[Math.min(attempt, 2)], undefined, { signal });
    }
  }
}
