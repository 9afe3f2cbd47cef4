import type { SpanContext } from '@opentelemetry/api';

import type { CallLoad } from './lane-load.ts';

export function recordCall(
  _lane: string,
  _load: CallLoad,
  _firstMessageMs: number | undefined,
  _span: SpanContext,
): void {}
