// When spans begin and end. OpenTelemetry's own clock cuts the beginning to whole milliseconds, and then a step that
// took one stands before or after where it was. This one is finer, and never a millisecond away from the machine's
// clock, which is set right while a process runs: so spans of all processes of a machine fit together.
export class SpanClock {
  readonly #sinceStartMs: () => number;
  readonly #wholeMs: () => number;
  #startMs: number;

  constructor(
    startMs = performance.timeOrigin,
    sinceStartMs: () => number = () => performance.now(),
    wholeMs: () => number = Date.now,
  ) {
    this.#startMs = startMs;
    this.#sinceStartMs = sinceStartMs;
    this.#wholeMs = wholeMs;
  }

  // Since 1970.
  nowMs(): number {
    const nowMs = this.#startMs + this.#sinceStartMs();
    const awayMs = nowMs - this.#wholeMs();
    return awayMs >= 0 && awayMs < 1 ? nowMs : this.#set();
  }

  // Read anew: between the two looks this process may have stood still.
  #set(): number {
    const wholeMs = this.#wholeMs();
    const sinceStartMs = this.#sinceStartMs();
    const nowMs = this.#startMs + sinceStartMs;
    const rightMs = Math.min(Math.max(nowMs, wholeMs), wholeMs + 1);
    this.#startMs = rightMs - sinceStartMs;
    return rightMs;
  }
}
