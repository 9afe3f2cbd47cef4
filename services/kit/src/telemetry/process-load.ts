// The delay of this process's event loop, for every span of it. There is one loop, so there is one watch on it: begun
// with telemetry, not by an import.
import { EventLoopDelay } from './event-loop.ts';
import { recordLoopDelay } from './rpc-metrics.ts';

let loop: EventLoopDelay | undefined;

export function watchEventLoop(): void {
  loop ??= new EventLoopDelay(recordLoopDelay);
}

// The longest that anything had to wait for the loop since then; 0 when nobody watches it.
export function loopDelayMs(sinceMs: number): number {
  return Math.round((loop?.maxSince(sinceMs) ?? 0) * 10) / 10;
}
