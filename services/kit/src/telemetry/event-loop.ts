// How late the event loop of this process or thread is. A timer tells: many times a second while somebody attends, and
// now and then at rest, since each time wakes the process. What it notes is kept for a minute, so that a span can say
// what stood in its way.
export interface Lateness {
  readonly atMs: number; // performance.now() when it was noticed.
  readonly delayMs: number;
}

const attendedEveryMs = 50;
// A wake costs 0.2 ms of a processor, and a mesh has nine processes that rest most of the time.
const restingEveryMs = 500;
const keptMs = 60_000;
// Below it is what timers themselves vary by.
const noticeableMs = 2;

export class EventLoopDelay {
  readonly #nowMs: () => number;
  readonly #onTick: ((delayMs: number) => void) | undefined;
  readonly #notes: Lateness[] = [];
  readonly #attending = new Set<Attendance>();
  #timer: NodeJS.Timeout;
  #everyMs = restingEveryMs;
  #dueMs: number;

  // `onTick` is told of every delay, also of none.
  constructor(onTick?: (delayMs: number) => void, nowMs: () => number = () => performance.now()) {
    this.#onTick = onTick;
    this.#nowMs = nowMs;
    this.#dueMs = nowMs() + this.#everyMs;
    this.#timer = this.#newTimer();
  }

  // From now on the loop is watched closely: until the end of what is returned, and for a minute at most, since of what is
  // older nothing is kept.
  attend(): Attendance {
    const nowMs = this.#nowMs();
    const attendance = new Attendance(nowMs, (ended) => {
      this.#attending.delete(ended);
      return this.#maxSince(ended.sinceMs);
    });
    this.#attending.add(attendance);
    if (this.#everyMs !== attendedEveryMs) {
      if (nowMs > this.#dueMs) this.#note(nowMs);
      this.#pace(attendedEveryMs);
    }
    return attendance;
  }

  tick(): void {
    const nowMs = this.#nowMs();
    this.#note(nowMs);
    for (const attendance of this.#attending) {
      if (attendance.sinceMs >= nowMs - keptMs) break; // They stand in the order in which they began.
      this.#attending.delete(attendance);
    }
    this.#pace(this.#attending.size > 0 ? attendedEveryMs : restingEveryMs);
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #maxSince(sinceMs: number): number {
    const nowMs = this.#nowMs();
    let max = Math.max(0, nowMs - Math.max(this.#dueMs, sinceMs));
    for (let at = this.#notes.length - 1; at >= 0; at--) {
      const note = this.#notes[at]!;
      if (note.atMs < sinceMs) break;
      max = Math.max(max, Math.min(note.delayMs, note.atMs - sinceMs));
    }
    return max;
  }

  #note(nowMs: number): void {
    const delayMs = Math.max(0, nowMs - this.#dueMs);
    this.#onTick?.(delayMs);
    while (this.#notes[0] && this.#notes[0].atMs < nowMs - keptMs) this.#notes.shift();
    if (delayMs >= noticeableMs) this.#notes.push({ atMs: nowMs, delayMs });
  }

  #pace(everyMs: number): void {
    this.#dueMs = this.#nowMs() + everyMs;
    if (everyMs === this.#everyMs) {
      this.#timer.refresh();
      return;
    }
    clearTimeout(this.#timer);
    this.#everyMs = everyMs;
    this.#timer = this.#newTimer();
  }

  #newTimer(): NodeJS.Timeout {
    return setTimeout(() => this.tick(), this.#everyMs).unref();
  }
}

// Of whoever wants to know what stood in its way.
export class Attendance {
  readonly sinceMs: number;
  readonly #end: (ended: Attendance) => number;

  constructor(sinceMs: number, end: (ended: Attendance) => number) {
    this.sinceMs = sinceMs;
    this.#end = end;
  }

  // Returns the longest that anything had to wait for the loop since it began.
  end(): number {
    return this.#end(this);
  }
}
