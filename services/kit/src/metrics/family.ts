// What a scrape shows, as plain data: it crosses threads, and both text formats are written from it.
export type MetricType = 'counter' | 'gauge' | 'histogram';

export interface Exemplar {
  readonly traceId: string;
  readonly value: number;
  readonly atUnixMs: number;
}

export interface Bucket {
  readonly upTo: number; // Inclusive; the last is Infinity.
  readonly count: number; // Of this bucket alone; the formats want sums, which their writer makes.
  readonly exemplar?: Exemplar | undefined;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number; // A histogram's sum.
  readonly buckets?: readonly Bucket[];
}

export interface Family {
  readonly name: string; // A counter's without `_total`.
  readonly help: string;
  readonly type: MetricType;
  readonly samples: readonly Sample[];
}
