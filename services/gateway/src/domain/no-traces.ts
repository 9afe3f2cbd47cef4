// Stands for the trace keeper where there is none: traces go to a collector then, or nowhere.
import { WrennError } from '@wrenn/kit/errors';

import type { Peer } from './peers.ts';

export const noTraces: Peer = {
  call() {
    const message = 'this mesh keeps no traces: they go where OTEL_EXPORTER_OTLP_ENDPOINT says, if it says anything';
    throw new WrennError('SERVICE_UNAVAILABLE', message);
  },
};
