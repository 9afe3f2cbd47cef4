import { invalidField } from '@wrenn/kit/errors';
import { durationOfMs } from '@wrenn/kit/duration';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireSandboxId } from '@wrenn/kit/validate';
import { timestampFromMs } from '@bufbuild/protobuf/wkt';
import { type MetricsService, MetricsSpan } from '@wrenn/proto/wrenn/v1/metrics';

import { type Usage, type UsageSpan, usageSpans } from './domain/usage-history.ts';
import type { UsageSampler } from './domain/usage-sampler.ts';

const spans: Partial<Record<MetricsSpan, UsageSpan>> = {
  [MetricsSpan.UNSPECIFIED]: 'ten minutes',
  [MetricsSpan.TEN_MINUTES]: 'ten minutes',
  [MetricsSpan.TWO_HOURS]: 'two hours',
  [MetricsSpan.DAY]: 'day',
};

export function metricsHandlers(sampler: UsageSampler): RpcHandlers<typeof MetricsService.method> {
  return {
    async read({ sandboxId, span: asked }) {
      const span = spans[asked ?? MetricsSpan.UNSPECIFIED];
      if (span === undefined) throw invalidField('span', 'must be a span this version knows');
      const points = sampler.history(requireSandboxId(sandboxId ?? ''))?.points(span, Date.now()) ?? [];
      return { interval: durationOfMs(usageSpans[span].intervalMs), points: points.map(wirePoint) };
    },
  };
}

function wirePoint({ endMs, coveredMs, cpuMs, memoryBytes, diskBytes, receivedBytes, sentBytes }: Usage) {
  return {
    endTime: timestampFromMs(endMs),
    covered: durationOfMs(coveredMs),
    cpuTime: durationOfMs(Math.max(0, cpuMs)),
    memoryBytes: BigInt(memoryBytes),
    diskBytes: BigInt(diskBytes),
    receivedBytes: BigInt(receivedBytes),
    sentBytes: BigInt(sentBytes),
  };
}
