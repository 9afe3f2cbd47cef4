import { ConfigError, absolutePath, commonShape, readConfig, rpcAddress, wholeNumber } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

import { maxSlotIndex } from './domain/slot.ts';

const shape = {
  ...commonShape,
  ...failpointShape,
  listen: rpcAddress().default('unix:/run/wrenn/network.sock'),
  stateDir: absolutePath().default('/var/lib/wrenn/network'),
  // Services with disjoint ranges share a host; every name they make carries a slot's index.
  firstSlot: wholeNumber(1, maxSlotIndex).default(1),
  lastSlot: wholeNumber(1, maxSlotIndex).default(1000),
  // Slots kept built ahead of need.
  poolSize: wholeNumber(0, 256).default(4),
};

export type NetworkConfig = ReturnType<typeof readNetworkConfig>;

export function readNetworkConfig(env: NodeJS.ProcessEnv) {
  const config = readConfig(shape, env);
  if (config.lastSlot < config.firstSlot) throw new ConfigError('WRENN_LAST_SLOT: must not be below WRENN_FIRST_SLOT');
  return config;
}
