import { z } from 'zod';

import { commonShape, rpcAddress } from '@wrenn/kit/config';

export const gatewayShape = {
  ...commonShape,
  listen: rpcAddress().default('127.0.0.1:9470'),
  scheduler: rpcAddress().default('127.0.0.1:9471'),
  traceKeeper: rpcAddress().optional(), // Where none is, the mesh keeps no traces.
  // Where a browser on this machine sees them, over HTTP; nowhere unless set.
  tracesListen: z
    .string()
    .regex(/^[^/\s]+:\d{1,5}$/, 'must be host:port')
    .optional(),
};
