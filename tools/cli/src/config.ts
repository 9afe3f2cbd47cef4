// What the command line takes from the environment. Options given on the command line come first.
import { absolutePath, domainName, httpOrigin, readConfig, rpcAddress } from '@wrenn/kit/config';

const shape = {
  gateway: rpcAddress().default('127.0.0.1:9470'),
  gatewayBulk: rpcAddress().optional(),
  edgeUrl: httpOrigin().optional(),
  domain: domainName().default('localhost'),
  runDir: absolutePath().default('/run/wrenn'),
  dataDir: absolutePath().default('/var/lib/wrenn'),
};

export interface CliConfig {
  readonly gateway: string;
  readonly gatewayBulk?: string | undefined; // Unset: four ports above the gateway.
  readonly edgeUrl?: string | undefined; // Unset: ten ports above the gateway.
  readonly domain: string; // Of the edge.
  readonly runDir: string;
  readonly dataDir: string;
  readonly databaseUrl: string | undefined; // DATABASE_URL: a PostgreSQL of one's own.
}

export function readCliConfig(env: NodeJS.ProcessEnv): CliConfig {
  const known = { WRENN_GATEWAY: env['WRENN_GATEWAY'], WRENN_RUN_DIR: env['WRENN_RUN_DIR'] };
  const rest = { WRENN_DATA_DIR: env['WRENN_DATA_DIR'], WRENN_GATEWAY_BULK: env['WRENN_GATEWAY_BULK'] };
  const edge = { WRENN_EDGE_URL: env['WRENN_EDGE_URL'], WRENN_DOMAIN: env['WRENN_DOMAIN'] };
  const config = readConfig(shape, { ...known, ...rest, ...edge });
  return Object.freeze({ ...config, databaseUrl: env['DATABASE_URL'] || undefined });
}
