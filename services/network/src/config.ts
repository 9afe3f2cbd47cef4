import { ConfigError, absolutePath, commonShape, readConfig, rpcAddress, wholeNumber } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

import { maxSlotIndex } from './domain/slot.ts';

const MiB = 2 ** 20;
// With less than that in a second, one could never pass.
const largestPacketBytes = 65_536;

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
  // What one guest may send; for slots built from now on.
  sendBytesPerSecond: wholeNumber(largestPacketBytes, 12_500_000_000).default(200 * MiB),
  sendBurstBytes: wholeNumber(0, 2 ** 32 - 1).default(100 * MiB),
};

export type NetworkConfig = ReturnType<typeof readNetworkConfig>;

export function readNetworkConfig(env: NodeJS.ProcessEnv) {
  const config = readConfig(shape, env);
  if (config.lastSlot < config.firstSlot) throw new ConfigError('WRENN_LAST_SLOT: must not be below WRENN_FIRST_SLOT');
  return config;
}
