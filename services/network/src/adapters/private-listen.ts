// Whoever can connect can cut off any guest, so a unix socket is made for root alone, from its first
// moment on.
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { RpcServer } from '@wrenn/kit/rpc-server';

export async function listenPrivately(rpc: RpcServer, address: string): Promise<void> {
  if (address.startsWith('unix:')) await mkdir(dirname(address.slice('unix:'.length)), { recursive: true });
  const umask = process.umask(0o177);
  try {
    await rpc.listen(address);
  } finally {
    process.umask(umask);
  }
}
