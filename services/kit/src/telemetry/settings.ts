// What OpenTelemetry's standard variables say of tracing in this process. Those of the OTLP exporter (headers,
// timeout, compression) it reads by itself.
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace';
import type { Sampler } from '@opentelemetry/sdk-trace';

import { ConfigError } from '../config.ts';

export interface TraceSettings {
  // Where spans are sent; undefined: nowhere, and none are made.
  readonly url: string | undefined;
  readonly sampler: Sampler;
  readonly queue: SpanQueue;
}

// Between the end of a span and its export: what does not fit is dropped and counted.
export interface SpanQueue {
  readonly maxSpans: number;
  readonly maxBatch: number;
  readonly delayMs: number;
  readonly timeoutMs: number;
}

const samplers: Readonly<Record<string, (ratio: () => number) => Sampler>> = {
  always_on: () => new AlwaysOnSampler(),
  always_off: () => new AlwaysOffSampler(),
  traceidratio: (ratio) => new TraceIdRatioBasedSampler(ratio()),
  parentbased_always_on: () => new ParentBasedSampler({ root: new AlwaysOnSampler() }),
  parentbased_always_off: () => new ParentBasedSampler({ root: new AlwaysOffSampler() }),
  parentbased_traceidratio: (ratio) => new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio()) }),
};

export function readTraceSettings(env: NodeJS.ProcessEnv): TraceSettings {
  return {
    url: env['OTEL_SDK_DISABLED'] === 'true' ? undefined : urlOf(env),
    sampler: samplerOf(env),
    queue: {
      maxSpans: numberOf(env, 'OTEL_BSP_MAX_QUEUE_SIZE', 4096),
      // Turning spans into bytes holds the event loop up: small batches, often.
      maxBatch: numberOf(env, 'OTEL_BSP_MAX_EXPORT_BATCH_SIZE', 256),
      delayMs: numberOf(env, 'OTEL_BSP_SCHEDULE_DELAY', 250),
      timeoutMs: numberOf(env, 'OTEL_BSP_EXPORT_TIMEOUT', 10_000),
    },
  };
}

// The variable of all signals names the place that paths are added to; that of traces is the whole URL.
function urlOf(env: NodeJS.ProcessEnv): string | undefined {
  const base = env['OTEL_EXPORTER_OTLP_ENDPOINT'];
  return env['OTEL_EXPORTER_OTLP_TRACES_ENDPOINT'] || (base ? `${base.replace(/\/$/, '')}/v1/traces` : undefined);
}

function samplerOf(env: NodeJS.ProcessEnv): Sampler {
  const name = env['OTEL_TRACES_SAMPLER'] || 'parentbased_always_on';
  const make = samplers[name];
  if (!make) throw new ConfigError(`OTEL_TRACES_SAMPLER: must be one of ${Object.keys(samplers).join(', ')}`);
  return make(() => ratioOf(env['OTEL_TRACES_SAMPLER_ARG'] || '1'));
}

function ratioOf(text: string): number {
  const ratio = Number(text);
  if (ratio >= 0 && ratio <= 1) return ratio;
  throw new ConfigError('OTEL_TRACES_SAMPLER_ARG: must be a number from 0 to 1');
}

function numberOf(env: NodeJS.ProcessEnv, name: string, fallback: number): number {
  const text = env[name] || String(fallback);
  if (/^\d{1,9}$/.test(text) && Number(text) > 0) return Number(text);
  throw new ConfigError(`${name}: must be a whole number above 0`);
}
