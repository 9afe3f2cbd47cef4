import { invalidField } from '@wrenn/kit/errors';
import type { RpcHandlers } from '@wrenn/kit/rpc-server';
import { requireSandboxId, requireWithin } from '@wrenn/kit/validate';
import type { TraceService } from '@wrenn/proto/wrenn/v1/trace';

import type { TraceBook } from './domain/trace-book.ts';
import { spanMessage, summaryMessage } from './messages.ts';

const defaultLimit = 50;
const maxLimit = 1000;

export function traceHandlers(book: TraceBook): RpcHandlers<typeof TraceService.method> {
  return {
    async list({ sandboxId, name, limit }) {
      if (sandboxId !== '') requireSandboxId(sandboxId);
      const traces = book.list({ sandboxId, name, limit: requireWithin(limit, 'limit', 0, maxLimit) || defaultLimit });
      return { traces: traces.map(summaryMessage) };
    },
    async get({ traceId }) {
      if (!/^[0-9a-f]{4,32}$/.test(traceId)) throw invalidField('trace_id', 'must be 4 to 32 hex digits');
      const trace = book.get(traceId);
      const spans = trace.spans.toSorted((a, b) => a.startUs - b.startUs);
      return { summary: summaryMessage(trace), spans: spans.map(spanMessage) };
    },
  };
}
