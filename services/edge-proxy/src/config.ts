import { commonShape, readConfig, rpcAddress } from '@wrenn/kit/config';
import { z } from 'zod';

const shape = {
  ...commonShape,
  listen: rpcAddress().default('127.0.0.1:9480'),
  scheduler: rpcAddress().default('127.0.0.1:9471'),
  // Sandboxes are served at `{port}-{sandbox id}.{domain}`.
  domain: z
    .string()
    .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'must be a domain name in lower case')
    .default('localhost'),
};

export type EdgeConfig = ReturnType<typeof readEdgeConfig>;

export function readEdgeConfig(env: NodeJS.ProcessEnv) {
  return readConfig(shape, env);
}
