// How long operations take and what becomes of them, told by their handlers: the answers say where the time went.
import type { Duration } from '@bufbuild/protobuf/wkt';

import { msOfDuration } from '../duration.ts';
import { WrennError } from '../errors.ts';
import { secondsBounds } from './buckets.ts';
import type { Counter, Histogram } from './instruments.ts';
import type { Metrics } from './registry.ts';

// What an answer tells of its stages, if it does.
interface Told {
  readonly timings?:
    | readonly { readonly stage?: string; readonly duration?: Partial<Duration> | undefined }[]
    | undefined;
}

// Which method is which operation; a function where the request tells.
export type OperationNames<H> = Partial<Record<keyof H, string | ((request: never) => string)>>;

export class OperationTimes {
  readonly #whole: Histogram<'operation' | 'outcome'>;
  readonly #stages: Histogram<'operation' | 'stage'>;
  readonly #failures: Counter<'operation' | 'reason'>;

  // `service` as names of metrics have it.
  constructor(metrics: Metrics, service: string) {
    const about = `wrenn_${service}`;
    this.#whole = metrics.histogram(
      {
        name: `${about}_operation_seconds`,
        help: 'Operations on sandboxes, from request to answer.',
        labels: ['operation', 'outcome'],
      },
      secondsBounds,
    );
    this.#stages = metrics.histogram(
      {
        name: `${about}_stage_seconds`,
        help: 'Stages of operations that succeeded; they may overlap.',
        labels: ['operation', 'stage'],
      },
      secondsBounds,
    );
    this.#failures = metrics.counter({
      name: `${about}_operation_failures_total`,
      help: 'Operations that failed, by reason.',
      labels: ['operation', 'reason'],
    });
  }

  async time<T extends Told>(operation: string, work: () => Promise<T>): Promise<T> {
    const startMs = performance.now();
    let outcome = 'failed';
    try {
      const answer = await work();
      outcome = 'ok';
      for (const { stage = '', duration } of answer.timings ?? []) {
        if (duration) this.#stages.observe(msOfDuration(duration as Duration) / 1000, { operation, stage });
      }
      return answer;
    } catch (error) {
      this.#failures.add(1, { operation, reason: error instanceof WrennError ? error.reason : 'INTERNAL' });
      throw error;
    } finally {
      this.#whole.observe((performance.now() - startMs) / 1000, { operation, outcome });
    }
  }

  // The same handlers, of which those named are timed.
  handlers<H extends object>(handlers: H, names: OperationNames<H>): H {
    const timed = { ...handlers } as Record<string, unknown>;
    for (const [method, name] of Object.entries(names)) {
      const handle = timed[method] as (request: never, call: unknown) => Promise<Told>;
      timed[method] = (request: never, call: unknown) => {
        const operation = typeof name === 'function' ? (name as (request: never) => string)(request) : String(name);
        return this.time(operation, () => handle(request, call));
      };
    }
    return timed as H;
  }
}
