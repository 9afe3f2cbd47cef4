// What one sandbox has taken from its host, in three rings: the last 10 minutes finely, 2 hours, and 24 hours coarsely.
// Its size never changes, however long the sandbox lives.
export interface Usage {
  readonly endMs: number; // Since 1970.
  readonly coveredMs: number;
  readonly cpuMs: number;
  readonly memoryBytes: number;
  readonly diskBytes: number;
  readonly receivedBytes: number;
  readonly sentBytes: number;
}

export type UsageSpan = 'ten minutes' | 'two hours' | 'day';

const second = 1000;
const minute = 60 * second;
export const usageSpans: Readonly<Record<UsageSpan, { readonly intervalMs: number; readonly pointCount: number }>> = {
  'ten minutes': { intervalMs: 5 * second, pointCount: 120 },
  'two hours': { intervalMs: minute, pointCount: 120 },
  day: { intervalMs: 10 * minute, pointCount: 144 },
};

export class UsageHistory {
  readonly #rings: Readonly<Record<UsageSpan, UsageRing>> = {
    'ten minutes': new UsageRing(usageSpans['ten minutes']),
    'two hours': new UsageRing(usageSpans['two hours']),
    day: new UsageRing(usageSpans.day),
  };
  endMs = 0;

  add(usage: Usage): void {
    this.endMs = usage.endMs;
    for (const ring of Object.values(this.#rings)) ring.add(usage);
  }

  // Oldest first; none from before the span.
  points(span: UsageSpan, nowMs: number): Usage[] {
    const { intervalMs, pointCount } = usageSpans[span];
    const sinceMs = nowMs - intervalMs * pointCount;
    return this.#rings[span].points().filter(({ endMs }) => endMs > sinceMs);
  }
}

const fields = ['endMs', 'coveredMs', 'cpuMs', 'memoryBytes', 'diskBytes', 'receivedBytes', 'sentBytes'] as const;

// Points lie on a grid of intervals. What falls into one is put together, so that a pause leaves a gap and no point
// that claims the time of it.
class UsageRing {
  readonly #intervalMs: number;
  readonly #capacity: number;
  readonly #values: Float64Array;
  #count = 0;
  #interval = -1;

  constructor({ intervalMs, pointCount }: { readonly intervalMs: number; readonly pointCount: number }) {
    this.#intervalMs = intervalMs;
    this.#capacity = pointCount + 1; // The newest is not complete.
    this.#values = new Float64Array(this.#capacity * fields.length);
  }

  add(usage: Usage): void {
    const interval = Math.floor(usage.endMs / this.#intervalMs);
    if (interval !== this.#interval) {
      this.#interval = interval;
      this.#count += 1;
      this.#write(usage);
      return;
    }
    const last = this.#read(this.#count - 1);
    this.#write({
      endMs: usage.endMs,
      coveredMs: last.coveredMs + usage.coveredMs,
      cpuMs: last.cpuMs + usage.cpuMs,
      memoryBytes: Math.max(last.memoryBytes, usage.memoryBytes),
      diskBytes: Math.max(last.diskBytes, usage.diskBytes),
      receivedBytes: last.receivedBytes + usage.receivedBytes,
      sentBytes: last.sentBytes + usage.sentBytes,
    });
  }

  points(): Usage[] {
    const kept = Math.min(this.#count, this.#capacity);
    return Array.from({ length: kept }, (_, n) => this.#read(this.#count - kept + n));
  }

  #write(usage: Usage): void {
    const at = ((this.#count - 1) % this.#capacity) * fields.length;
    fields.forEach((field, n) => (this.#values[at + n] = usage[field]));
  }

  #read(index: number): Usage {
    const at = (index % this.#capacity) * fields.length;
    return Object.fromEntries(fields.map((field, n) => [field, this.#values[at + n] ?? 0])) as unknown as Usage;
  }
}
