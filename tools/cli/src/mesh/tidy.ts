// After a mesh has stopped and its sandboxes are gone: removes what services kept for themselves, so that
// the run directory holds logs only and the RAM directory is no more. What should not be there stays.
import { readdir, rm, rmdir } from 'node:fs/promises';
import { join } from 'node:path';

import { type MeshOptions, storeRamDir } from './options.ts';

const ownEntries = ['admin', 'network', 'vm-runtime', 'network.sock', 'snapshot-store.sock', 'trace-keeper.sock'];

export async function tidy({ runDir, ramDir }: Pick<MeshOptions, 'runDir' | 'ramDir'>): Promise<void> {
  for (const entry of ownEntries) await rm(join(runDir, entry), { recursive: true, force: true });
  if ((await readdir(runDir)).length === 0) await rmdir(runDir);
  if (await hasStagedSnapshots(ramDir)) return;
  await rm(storeRamDir(ramDir), { recursive: true, force: true });
  await rmdir(ramDir).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

// They are not on disk yet: the next start of the mesh commits them.
async function hasStagedSnapshots(ramDir: string): Promise<boolean> {
  const staged = await readdir(join(storeRamDir(ramDir), 'staged')).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return [];
  });
  return staged.length > 0;
}
