// What the command line takes from the environment. Options given on the command line come first.
import { absolutePath, readConfig, rpcAddress } from '@wrenn/kit/config';

const shape = {
  gateway: rpcAddress().default('127.0.0.1:9470'),
  gatewayBulk: rpcAddress().optional(),
  runDir: absolutePath().default('/run/wrenn'),
  dataDir: absolutePath().default('/var/lib/wrenn'),
};

export interface CliConfig {
  readonly gateway: string;
  readonly gatewayBulk?: string | undefined; // Unset: four ports above the gateway.
  readonly runDir: string;
  readonly dataDir: string;
  readonly databaseUrl: string | undefined; // DATABASE_URL: a PostgreSQL of one's own.
}

export function readCliConfig(env: NodeJS.ProcessEnv): CliConfig {
  const known = { WRENN_GATEWAY: env['WRENN_GATEWAY'], WRENN_RUN_DIR: env['WRENN_RUN_DIR'] };
  const rest = { WRENN_DATA_DIR: env['WRENN_DATA_DIR'], WRENN_GATEWAY_BULK: env['WRENN_GATEWAY_BULK'] };
  const config = readConfig(shape, { ...known, ...rest });
  return Object.freeze({ ...config, databaseUrl: env['DATABASE_URL'] || undefined });
}
