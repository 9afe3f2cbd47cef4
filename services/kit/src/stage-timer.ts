// Where the time of one operation goes: each stage is named here once, and is a span, a line of the answer's timings
// and a field of the log.
import type { Attributes, Span } from '@opentelemetry/api';

import { inSpan } from './telemetry/span.ts';

export interface Stage {
  readonly stage: string;
  readonly startedAfterMs: number;
  readonly durationMs: number;
}

export class StageTimer {
  readonly #nowMs: () => number;
  readonly #startMs: number;
  readonly #stages: Stage[] = [];

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
    this.#startMs = nowMs();
  }

  // Stages may overlap.
  async time<T>(stage: string, work: (span: Span) => Promise<T>, attributes: Attributes = {}): Promise<T> {
    const startMs = this.#nowMs();
    try {
      return await inSpan(stage, attributes, work);
    } finally {
      const startedAfterMs = startMs - this.#startMs;
      this.#stages.push({ stage, startedAfterMs, durationMs: this.#nowMs() - startMs });
    }
  }

  // Runs what tells its own stages: another service, which has made their spans. Its clock is not ours: what the call
  // took beyond the stages is taken to be half on the way there and half on the way back, as NTP does.
  async include<T extends { readonly timings: readonly Stage[] }>(work: () => Promise<T>): Promise<T> {
    const afterMs = this.#nowMs() - this.#startMs;
    const result = await work();
    const tookMs = this.#nowMs() - this.#startMs - afterMs;
    const toldMs = Math.max(0, ...result.timings.map((each) => each.startedAfterMs + each.durationMs));
    const shiftMs = afterMs + Math.max(0, tookMs - toldMs) / 2;
    for (const each of result.timings) this.#stages.push({ ...each, startedAfterMs: each.startedAfterMs + shiftMs });
    return result;
  }

  // In order of start.
  get stages(): Stage[] {
    return this.#stages.toSorted((a, b) => a.startedAfterMs - b.startedAfterMs);
  }
}
