// How late the event loop of this process or thread is. A timer tells, many times a second; what it notes is kept for
// a minute, so that a span can say what stood in its way.
export interface Lateness {
  readonly atMs: number; // performance.now() when it was noticed.
  readonly delayMs: number;
}

// A process at rest is woken for it, and a wake costs 0.2 ms of a processor: a mesh has nine that tick.
const everyMs = 50;
const keptMs = 60_000;
// Below it is what timers themselves vary by.
const noticeableMs = 2;

export class EventLoopDelay {
  readonly #nowMs: () => number;
  readonly #onTick: ((delayMs: number) => void) | undefined;
  readonly #notes: Lateness[] = [];
  readonly #timer: NodeJS.Timeout;
  #dueMs: number;

  // `onTick` is told of every delay, also of none.
  constructor(onTick?: (delayMs: number) => void, nowMs: () => number = () => performance.now()) {
    this.#onTick = onTick;
    this.#nowMs = nowMs;
    this.#dueMs = nowMs() + everyMs;
    this.#timer = setInterval(() => this.tick(), everyMs).unref();
  }

  // The longest that anything had to wait for the loop between `sinceMs` and now.
  maxSince(sinceMs: number): number {
    const nowMs = this.#nowMs();
    let max = Math.max(0, nowMs - Math.max(this.#dueMs, sinceMs));
    for (let at = this.#notes.length - 1; at >= 0; at--) {
      const note = this.#notes[at]!;
      if (note.atMs < sinceMs) break;
      max = Math.max(max, Math.min(note.delayMs, note.atMs - sinceMs));
    }
    return max;
  }

  tick(): void {
    const nowMs = this.#nowMs();
    const delayMs = Math.max(0, nowMs - this.#dueMs);
    this.#dueMs = nowMs + everyMs;
    this.#onTick?.(delayMs);
    while (this.#notes[0] && this.#notes[0].atMs < nowMs - keptMs) this.#notes.shift();
    if (delayMs >= noticeableMs) this.#notes.push({ atMs: nowMs, delayMs });
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
