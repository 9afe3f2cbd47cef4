import { absolutePath, commonShape, rpcAddress } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

export const snapshotStoreShape = {
  ...commonShape,
  ...failpointShape,
  listen: rpcAddress().default('unix:/run/wrenn/snapshot-store.sock'),
  dataDir: absolutePath().default('/var/lib/wrenn/snapshot-store'),
};
