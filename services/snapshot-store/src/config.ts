import { absolutePath, commonShape, rpcAddress } from '@wrenn/kit/config';

export const snapshotStoreShape = {
  ...commonShape,
  listen: rpcAddress().default('unix:/run/wrenn/snapshot-store.sock'),
  dataDir: absolutePath().default('/var/lib/wrenn/snapshot-store'),
};
