import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import type { GuestFiles as BootFiles } from './qemu-args.ts';

// Kernel and initramfs where every VMM's uid can read them, whatever the modes of the image cache.
export async function copyBootFiles(dir: string, { kernel, initramfs }: BootFiles): Promise<BootFiles> {
  await mkdir(dir, { recursive: true, mode: 0o755 });
  const files = { kernel: join(dir, 'vmlinuz'), initramfs: join(dir, 'initramfs') };
  await copyFile(kernel, files.kernel);
  await copyFile(initramfs, files.initramfs);
  return files;
}
