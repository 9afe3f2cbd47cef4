import { z } from 'zod';

import { absolutePath, commonShape, httpOrigin, readConfig, rpcAddress } from '@wrenn/kit/config';
import { failpointShape } from '@wrenn/kit/failpoint';

const shape = {
  ...commonShape,
  ...failpointShape,
  listen: rpcAddress().default('127.0.0.1:9472'),
  advertise: rpcAddress().default('127.0.0.1:9472'), // Where scheduler and gateway reach this host.
  bulkListen: rpcAddress().default('127.0.0.1:9473'), // Read and Write of files, in a thread of their own.
  bulkAdvertise: rpcAddress().default('127.0.0.1:9473'),
  edgeUrl: httpOrigin().default('http://127.0.0.1:9480'), // Where signed URLs of files lead.
  hostId: z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be 1 to 63 characters a-z, 0-9, -'),
  scheduler: rpcAddress().default('127.0.0.1:9471'),
  network: rpcAddress().default('unix:/run/wrenn/network.sock'),
  snapshotStore: rpcAddress().default('unix:/run/wrenn/snapshot-store.sock'),
  kernel: absolutePath(), // A bzImage.
  vmlinux: absolutePath(), // The same kernel, unpacked.
  initramfs: absolutePath(),
  agentBinary: absolutePath(), // The agent as a host program: it measures the TSC rate.
  pager: absolutePath(), // services/pager: its program, and the library that QEMU preloads.
  shim: absolutePath(),
  runDir: absolutePath().default('/run/wrenn/vm-runtime'),
  dataDir: absolutePath().default('/var/lib/wrenn/vm-runtime'), // On the file system that disks are on: its room is reported.
  ramDir: absolutePath().default('/dev/shm/wrenn'), // Guest memory; must be a tmpfs.
};

export type Config = ReturnType<typeof parseConfig>;

export const parseConfig = (env: NodeJS.ProcessEnv) => readConfig(shape, env);
