// Turns a directory into an ext4 image. Fixed UUID and hash seed: a template's identity is its digest, not chance.
import { open } from 'node:fs/promises';
import { runProgram } from '@wrenn/kit/run-program';

const uuid = '57e22a00-0000-4000-8000-000000000001';
const blockBytes = 4096;

export interface Ext4 {
  readonly virtualBytes: number;
  readonly journalMiB: number;
}

// The agent grows the filesystem to its disk while mounted, so the layout is that of a large disk (4 KiB blocks,
// 16 KiB an inode) however small the image. The file is sparse: inode tables need no zeroing in the guest either.
export async function makeExt4(from: string, image: string, { virtualBytes, journalMiB }: Ext4): Promise<void> {
  const file = await open(image, 'wx', 0o644);
  try {
    await file.truncate(virtualBytes);
  } finally {
    await file.close();
  }
  const extended = `hash_seed=${uuid},root_owner=0:0,resize=${(64 * 2 ** 30) / blockBytes},assume_storage_prezeroed=1`;
  const layout = ['-b', String(blockBytes), '-i', '16384', '-I', '256', '-m', '0', '-J', `size=${journalMiB}`];
  await runProgram(
    'mke2fs',
    ['-q', '-t', 'ext4', ...layout, '-U', uuid, '-L', 'wrenn', '-E', extended, '-d', from, image],
    {
      timeoutMs: 600_000,
    },
  );
}
