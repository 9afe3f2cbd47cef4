import { absolutePath, commonShape, rpcAddress } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

export const snapshotStoreShape = {
  ...commonShape,
  ...failpointShape,
  listen: rpcAddress().default('unix:/run/wrenn/snapshot-store.sock'),
  dataDir: absolutePath().default('/var/lib/wrenn/snapshot-store'),
  // For frozen memory; a tmpfs, the one on which vm-runtime keeps the RAM files of its VMs.
  ramDir: absolutePath().default('/dev/shm/wrenn/store'),
};
