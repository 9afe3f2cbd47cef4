// Counters, gauges and histograms: a few numbers each, without an allocation where a series is kept at hand.
import { type SpanContext, TraceFlags, trace } from '@opentelemetry/api';

import type { Exemplar, Sample } from './family.ts';

export interface MetricSpec<L extends string = never> {
  readonly name: string; // wrenn_<service>_<thing>_<unit>
  readonly help: string;
  readonly labels?: readonly L[]; // Of few values each, and never an id.
}

// The labels of one series, or no argument where a metric has none.
export type LabelsOf<L extends string> = [L] extends [never] ? [] : [labels: Readonly<Record<L, string>>];

// A label that turns out to hold ids must not cost the memory of the process: what is beyond shares one series.
const mostSeries = 500;
const beyond = 'other';

class SeriesSet<L extends string, S> {
  readonly #labels: readonly L[];
  readonly #make: () => S;
  readonly #series = new Map<string, { readonly labels: Readonly<Record<string, string>>; readonly series: S }>();

  constructor(labels: readonly L[], make: () => S) {
    this.#labels = labels;
    this.#make = make;
    if (labels.length === 0) this.of([]);
  }

  // The series of these values, in the order of the labels.
  of(values: readonly string[]): S {
    const key = values.join('\0');
    const found = this.#series.get(key);
    if (found) return found.series;
    if (this.#series.size >= mostSeries) return this.#add(this.#labels.map(() => beyond));
    return this.#add(values);
  }

  with([labels]: LabelsOf<L>): S {
    return this.of(labels ? this.#labels.map((label) => labels[label]) : []);
  }

  *samples(read: (series: S) => Omit<Sample, 'labels'>): Generator<Sample> {
    for (const { labels, series } of this.#series.values()) yield { labels, ...read(series) };
  }

  #add(values: readonly string[]): S {
    const key = values.join('\0');
    const labels = Object.fromEntries(this.#labels.map((label, n) => [label, values[n] ?? '']));
    const entry = this.#series.get(key) ?? { labels, series: this.#make() };
    this.#series.set(key, entry);
    return entry.series;
  }
}

class NumberSeries {
  value = 0;

  add(by = 1): void {
    this.value += by;
  }

  set(value: number): void {
    this.value = value;
  }
}

export type CounterSeries = Pick<NumberSeries, 'add'>;
export type GaugeSeries = Pick<NumberSeries, 'add' | 'set'>;

export class Counter<L extends string = never> {
  protected readonly series: SeriesSet<L, NumberSeries>;

  constructor(labels: readonly L[] = []) {
    this.series = new SeriesSet(labels, () => new NumberSeries());
  }

  with(...labels: LabelsOf<L>): CounterSeries {
    return this.series.with(labels);
  }

  add(by: number, ...labels: LabelsOf<L>): void {
    this.with(...labels).add(by);
  }

  samples(): Sample[] {
    return [...this.series.samples(({ value }) => ({ value }))];
  }
}

export class Gauge<L extends string = never> extends Counter<L> {
  override with(...labels: LabelsOf<L>): GaugeSeries {
    return this.series.with(labels);
  }

  set(value: number, ...labels: LabelsOf<L>): void {
    this.with(...labels).set(value);
  }
}

export class HistogramSeries {
  readonly #bounds: readonly number[];
  readonly #counts: number[];
  readonly #exemplars: (Exemplar | undefined)[];
  #sum = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = Array.from({ length: bounds.length + 1 }, () => 0);
    this.#exemplars = this.#counts.map(() => undefined);
  }

  // Its bucket's exemplar becomes this span's trace, or the active one's, if that is recorded.
  observe(value: number, span: SpanContext | undefined = trace.getActiveSpan()?.spanContext()): void {
    const found = this.#bounds.findIndex((bound) => value <= bound);
    const at = found < 0 ? this.#bounds.length : found;
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sum += value;
    if (span && (span.traceFlags & TraceFlags.SAMPLED) !== 0) {
      this.#exemplars[at] = { traceId: span.traceId, value, atUnixMs: Date.now() };
    }
  }

  read(): Omit<Sample, 'labels'> {
    const buckets = this.#counts.map((count, n) => {
      return { upTo: this.#bounds[n] ?? Infinity, count, exemplar: this.#exemplars[n] };
    });
    return { value: this.#sum, buckets };
  }
}

export class Histogram<L extends string = never> {
  readonly #set: SeriesSet<L, HistogramSeries>;

  constructor(bounds: readonly number[], labels: readonly L[] = []) {
    this.#set = new SeriesSet(labels, () => new HistogramSeries(bounds));
  }

  with(...labels: LabelsOf<L>): HistogramSeries {
    return this.#set.with(labels);
  }

  observe(value: number, ...labels: LabelsOf<L>): void {
    this.#set.with(labels).observe(value);
  }

  samples(): Sample[] {
    return [...this.#set.samples((series) => series.read())];
  }
}
