export interface Stage {
  readonly stage: string;
  readonly startedAfterMs: number;
  readonly durationMs: number;
}

// Notes where the time of one operation goes. Stages may overlap.
export class StageTimer {
  readonly #nowMs: () => number;
  readonly #startMs: number;
  readonly #stages: Stage[] = [];

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  async time<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const startMs = this.#nowMs();
    try {
      return await work();
    } finally {
      const startedAfterMs = startMs - this.#startMs;
      this.#stages.push({ stage, startedAfterMs, durationMs: this.#nowMs() - startMs });
    }
  }

  // In order of start.
  get stages(): Stage[] {
    return this.#stages.toSorted((a, b) => a.startedAfterMs - b.startedAfterMs);
  }
}
