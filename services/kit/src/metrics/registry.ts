// What a process counts. Numbers are kept as they happen or read when somebody asks; a source that fails to
// answer costs its own figures and no others.
import { Counter, Gauge, Histogram, type LabelsOf, type MetricSpec } from './instruments.ts';
import type { Family, MetricType, Sample } from './family.ts';

// One figure of a metric that is read at each scrape.
export type Reading<L extends string = never> = readonly [value: number, ...labels: LabelsOf<L>];

type Source = () => Family[] | Promise<Family[]>;

const namePattern = /^(wrenn|process)(_[a-z0-9]+)+$/;
const readLimitMs = 2000;

export class Metrics {
  readonly #names = new Set<string>();
  readonly #sources: { readonly name: string; readonly read: Source }[] = [];
  readonly #failures: Counter<'metric'>;

  constructor() {
    this.#failures = this.counter({
      name: 'wrenn_process_metric_read_failures_total',
      help: 'Figures that could not be read when they were asked for.',
      labels: ['metric'],
    });
  }

  // `spec.name` ends with `_total`.
  counter<L extends string = never>(spec: MetricSpec<L>): Counter<L> {
    const counter = new Counter<L>(spec.labels);
    this.#add(spec, 'counter', () => counter.samples());
    return counter;
  }

  gauge<L extends string = never>(spec: MetricSpec<L>): Gauge<L> {
    const gauge = new Gauge<L>(spec.labels);
    this.#add(spec, 'gauge', () => gauge.samples());
    return gauge;
  }

  histogram<L extends string = never>(spec: MetricSpec<L>, bounds: readonly number[]): Histogram<L> {
    const histogram = new Histogram<L>(bounds, spec.labels);
    this.#add(spec, 'histogram', () => histogram.samples());
    return histogram;
  }

  // Figures that somebody else keeps: `read` is called at each scrape and must be cheap.
  read<L extends string = never>(
    type: Exclude<MetricType, 'histogram'>,
    spec: MetricSpec<L>,
    read: () => Iterable<Reading<L>> | Promise<Iterable<Reading<L>>>,
  ): void {
    this.#add(spec, type, async () => {
      return Array.from(await read(), ([value, labels]) => ({ value, labels: labels ?? {} }));
    });
  }

  // What another thread of this process counts, `labelled` so that it can be told apart.
  include(name: string, read: Source): void {
    this.#sources.push({ name, read });
  }

  async collect(): Promise<Family[]> {
    const families = await Promise.all(
      this.#sources.map(async ({ name, read }) => {
        try {
          return await withinLimit(read());
        } catch {
          this.#failures.add(1, { metric: name }); // Shown by the next scrape.
          return [];
        }
      }),
    );
    return merged(families.flat());
  }

  #add(spec: MetricSpec<string>, type: MetricType, read: () => Sample[] | Promise<Sample[]>): void {
    const { help } = spec;
    if (!namePattern.test(spec.name)) throw new Error(`${spec.name} is no name of a metric`);
    if (spec.name.endsWith('_total') !== (type === 'counter'))
      throw new Error(`${spec.name}: \`_total\` is for counters`);
    if (this.#names.has(spec.name)) throw new Error(`${spec.name} is counted twice`);
    this.#names.add(spec.name);
    const name = spec.name.replace(/_total$/, '');
    this.include(spec.name, async () => [{ name, help, type, samples: await read() }]);
  }
}

// The same figures with labels more, which tell the thread that they are from.
export function labelled(families: readonly Family[], labels: Readonly<Record<string, string>>): Family[] {
  return families.map((family) => {
    const samples = family.samples.map((sample) => ({ ...sample, labels: { ...sample.labels, ...labels } }));
    return { ...family, samples };
  });
}

// One family per name, whichever thread its samples are from.
function merged(families: readonly Family[]): Family[] {
  const byName = Map.groupBy(families, ({ name }) => name);
  return Array.from(byName.values(), (parts) => {
    return { ...(parts[0] as Family), samples: parts.flatMap(({ samples }) => samples) };
  });
}

async function withinLimit<T>(reading: T | Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('not read in time')), readLimitMs);
  });
  try {
    return await Promise.race([reading, limit]);
  } finally {
    clearTimeout(timer);
  }
}
