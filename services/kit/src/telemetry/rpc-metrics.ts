// What calls meet on their lanes, as histograms: the same figures as on their spans, of every call, sampled or not.
// A bucket's exemplar is the trace of a call that fell into it.
import type { SpanContext } from '@opentelemetry/api';

import { secondsBounds } from '../metrics/buckets.ts';
import type { HistogramSeries } from '../metrics/instruments.ts';
import { processMetrics } from '../metrics/process-metrics.ts';

const lane = ['lane'] as const;
const countBounds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
const byteBounds = [0, 1024, 16_384, 65_536, 262_144, 1_048_576, 8_388_608, 67_108_864];

const queued = processMetrics.histogram(
  {
    name: 'wrenn_rpc_queued_seconds',
    help: 'From a call until its headers were given to its connection.',
    labels: lane,
  },
  secondsBounds,
);
const firstMessage = processMetrics.histogram(
  { name: 'wrenn_rpc_first_message_seconds', help: 'From a call until its first message came back.', labels: lane },
  secondsBounds,
);
const inFlight = processMetrics.histogram(
  {
    name: 'wrenn_rpc_in_flight_calls',
    help: 'Calls under way on its lane when a call began, itself included.',
    labels: lane,
  },
  countBounds,
);
const unsent = processMetrics.histogram(
  { name: 'wrenn_rpc_unsent_bytes', help: "Bytes before a call that its lane's peer had not taken.", labels: lane },
  byteBounds,
);
const windowUsed = processMetrics.histogram(
  { name: 'wrenn_rpc_window_used_bytes', help: 'Bytes that had come over its lane and still took room.', labels: lane },
  byteBounds,
);
const eventLoopDelay = processMetrics.histogram(
  { name: 'wrenn_process_event_loop_delay_seconds', help: 'How late the event loop gets to what is due.' },
  secondsBounds,
);

export interface MeasuredCall {
  readonly inFlight: number;
  readonly queuedMs: number | undefined;
  readonly firstMessageMs: number | undefined;
  readonly unsentBytes: number;
  readonly windowUsedBytes: number;
}

// The figures of one lane's calls, found once.
export class LaneFigures {
  readonly #queued: HistogramSeries;
  readonly #firstMessage: HistogramSeries;
  readonly #inFlight: HistogramSeries;
  readonly #unsent: HistogramSeries;
  readonly #windowUsed: HistogramSeries;

  constructor(name: string) {
    const labels = { lane: name };
    this.#queued = queued.with(labels);
    this.#firstMessage = firstMessage.with(labels);
    this.#inFlight = inFlight.with(labels);
    this.#unsent = unsent.with(labels);
    this.#windowUsed = windowUsed.with(labels);
  }

  record(call: MeasuredCall, span: SpanContext): void {
    if (call.queuedMs !== undefined) this.#queued.observe(call.queuedMs / 1000, span);
    if (call.firstMessageMs !== undefined) this.#firstMessage.observe(call.firstMessageMs / 1000, span);
    this.#inFlight.observe(call.inFlight, span);
    this.#unsent.observe(call.unsentBytes, span);
    this.#windowUsed.observe(call.windowUsedBytes, span);
  }
}

export function recordLoopDelay(delayMs: number): void {
  eventLoopDelay.observe(delayMs / 1000);
}
