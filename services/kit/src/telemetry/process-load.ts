// The delay of this process's event loop, for every span of it. There is one loop, so there is one watch on it: begun
// with telemetry, not by an import.
import { type Attendance, EventLoopDelay } from './event-loop.ts';
import { recordLoopDelay } from './rpc-metrics.ts';

let loop: EventLoopDelay | undefined;

export function watchEventLoop(): void {
  loop ??= new EventLoopDelay(recordLoopDelay);
}

// Undefined when nobody watches the loop; whoever attends ends it.
export function attendLoop(): Attendance | undefined {
  return loop?.attend();
}

// In ms; 0 when nobody watched.
export function loopDelayMs(attendance: Attendance | undefined): number {
  return Math.round((attendance?.end() ?? 0) * 10) / 10;
}
