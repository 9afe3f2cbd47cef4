// What the command line takes from the environment. Options given on the command line come first.
import { absolutePath, readConfig, rpcAddress } from '@wrenn/kit/config';

const shape = {
  gateway: rpcAddress().default('127.0.0.1:9470'),
  runDir: absolutePath().default('/run/wrenn'),
  dataDir: absolutePath().default('/var/lib/wrenn'),
};

export interface CliConfig {
  readonly gateway: string;
  readonly runDir: string;
  readonly dataDir: string;
  readonly databaseUrl: string | undefined; // DATABASE_URL: a PostgreSQL of one's own.
}

export function readCliConfig(env: NodeJS.ProcessEnv): CliConfig {
  const known = { WRENN_GATEWAY: env['WRENN_GATEWAY'], WRENN_RUN_DIR: env['WRENN_RUN_DIR'] };
  const config = readConfig(shape, { ...known, WRENN_DATA_DIR: env['WRENN_DATA_DIR'] });
  return Object.freeze({ ...config, databaseUrl: env['DATABASE_URL'] || undefined });
}
