import { z } from 'zod';

import { commonShape, rpcAddress, wholeNumber } from '@wrenn/kit/config';

export const traceKeeperShape = {
  ...commonShape,
  listen: rpcAddress().default('unix:/run/wrenn/trace-keeper.sock'),
  // Where services send their spans: OTLP over HTTP.
  intakeListen: z
    .string()
    .regex(/^[^/\s]+:\d{1,5}$/, 'must be host:port')
    .default('127.0.0.1:9475'),
  // What is kept; the oldest of each kind goes first.
  maxBytes: wholeNumber(1024 * 1024, 1024 * 1024 * 1024).default(32 * 1024 * 1024),
  maxTraces: wholeNumber(10, 1_000_000).default(5000),
};
