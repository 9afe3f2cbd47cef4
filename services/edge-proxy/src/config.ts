import { ConfigError, absolutePath, commonShape, readConfig, rpcAddress } from '@wrenn/kit/config';
import { z } from 'zod';

import type { Hops } from './adapters/hop-dialer.ts';
import { type IsTrusted, trustedProxies } from './trusted-proxies.ts';

const shape = {
  ...commonShape,
  listen: rpcAddress().default('127.0.0.1:9480'),
  scheduler: rpcAddress().default('127.0.0.1:9471'),
  // Sandboxes are served at `{port}-{sandbox id}.{domain}`.
  domain: z
    .string()
    .regex(/^[a-z0-9-]+(\.[a-z0-9-]+)*$/, 'must be a domain name in lower case')
    .default('localhost'),
  // The host that this edge is on. Needed where there are more: then guests of this one only are dialled from here.
  hostId: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters a-z, 0-9, -')
    .optional(),
  // Where other edges are taken to guests of this host, and where edges of other hosts do so: `host-id=host:port,…`.
  hopListen: z
    .string()
    .regex(/^[^/\s]+:\d{1,5}$/, 'must be host:port')
    .optional(),
  hops: z
    .string()
    .regex(/^([^=,\s]+=[^/=,\s]+:\d{1,5}(,|$))*$/, 'must be a list like host-id=host:port,…')
    .transform((text): Hops => new Map(text.split(',').flatMap((hop) => (hop === '' ? [] : [pairOf(hop)]))))
    .default(new Map()),
  hopSecretFile: absolutePath().optional(), // What all edges know, 32 bytes or more.
  // Proxies of ours in front of the edge.
  trustedProxies: z.string().default('').transform(parsedProxies),
};

function pairOf(hop: string): [string, string] {
  const at = hop.indexOf('=');
  return [hop.slice(0, at), hop.slice(at + 1)];
}

function parsedProxies(text: string, context: z.RefinementCtx): IsTrusted {
  try {
    return trustedProxies(text);
  } catch {
    context.addIssue('must be addresses and networks like 192.0.2.7,10.0.0.0/8');
    return z.NEVER;
  }
}

export type EdgeConfig = ReturnType<typeof readEdgeConfig>;

export function readEdgeConfig(env: NodeJS.ProcessEnv) {
  const config = readConfig(shape, env);
  const { hostId, hopListen, hops, hopSecretFile } = config;
  if ((hopListen !== undefined || hops.size > 0) !== (hopSecretFile !== undefined)) {
    throw new ConfigError('WRENN_HOP_SECRET_FILE belongs to WRENN_HOPS and WRENN_HOP_LISTEN');
  }
  if (hopListen !== undefined && hostId === undefined) {
    throw new ConfigError('WRENN_HOST_ID must be set where WRENN_HOP_LISTEN is');
  }
  return config;
}
