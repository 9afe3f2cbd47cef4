// The delay of this process's event loop, for every span of it. There is one loop, so there is one watch on it: set up
// with tracing, not by an import.
import { EventLoopDelay } from './event-loop.ts';

let loop: EventLoopDelay | undefined;

export function watchEventLoop(onTick?: (delayMs: number) => void): EventLoopDelay {
  loop ??= new EventLoopDelay(onTick);
  return loop;
}

// The longest that anything had to wait for the loop since then; 0 when nobody watches it.
export function loopDelayMs(sinceMs: number): number {
  return Math.round((loop?.maxSince(sinceMs) ?? 0) * 10) / 10;
}
