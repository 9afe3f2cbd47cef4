// The only way in and out of the store is one rename: a directory is prepared under tmp/ and appears
// whole under its name, and it vanishes whole by the reverse. What a crash leaves lies in tmp/.
import { randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { chmod, mkdir, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';

import { syncDirectory } from '@wrenn/kit/durable-file';

export const rootfsName = 'rootfs.ext4';

// VMMs cross `images` and `disks`; only who knows a disk's name gets into its directory.
const roots = [
  ['images', 0o755],
  ['disks', 0o711],
  ['staged', 0o700],
  ['snapshots', 0o700],
  ['tmp', 0o755],
] as const;

export class StoreDirectory {
  readonly #root: string;
  readonly #lock: number;

  private constructor(root: string, lock: number) {
    this.#root = root;
    this.#lock = lock;
  }

  // Takes the directory for this process alone, until close() or death, and empties tmp/.
  static async open(root: string): Promise<StoreDirectory> {
    for (const [name, mode] of roots) {
      await mkdir(join(root, name), { recursive: true });
      await chmod(join(root, name), mode);
    }
    const directory = new StoreDirectory(root, lockFile(join(root, 'lock')));
    for (const name of await readdir(directory.#tmp)) await directory.discard(join(directory.#tmp, name));
    return directory;
  }

  get images(): string {
    return join(this.#root, 'images');
  }

  get disks(): string {
    return join(this.#root, 'disks');
  }

  get snapshots(): string {
    return join(this.#root, 'snapshots');
  }

  // The disks of staged snapshots.
  get staged(): string {
    return join(this.#root, 'staged');
  }

  // Where the content of an image's version lies.
  imagePath(name: string, digest: string): string {
    return join(this.images, name, digest.slice('sha256:'.length), rootfsName);
  }

  // The image whose content lies at a path: imagePath() reversed.
  imageAt(path: string): { readonly name: string; readonly digest: string } | undefined {
    const [name = '', hex = ''] = relative(this.images, path).split(sep);
    const digest = `sha256:${hex}`;
    return this.imagePath(name, digest) === path ? { name, digest } : undefined;
  }

  get #tmp(): string {
    return join(this.#root, 'tmp');
  }

  async stage(mode = 0o755): Promise<string> {
    const path = this.#tmpName();
    await mkdir(path, { mode });
    return path;
  }

  // What is in `staged`, names included, must be durable already: its manifest, written durably, comes
  // last. Fails with ENOTEMPTY when the name is taken.
  async publish(staged: string, path: string): Promise<void> {
    await this.place(staged, path);
    await syncDirectory(dirname(path));
  }

  // As publish(), for what need not survive a power cut.
  async place(staged: string, path: string): Promise<void> {
    await rename(staged, path);
  }

  // Takes a directory out of the store and returns where it lies now; undefined when there is none.
  async retire(path: string): Promise<string | undefined> {
    const retired = this.#tmpName();
    try {
      await rename(path, retired);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    await syncDirectory(dirname(path));
    return retired;
  }

  // Returns false when there was nothing to remove.
  async remove(path: string): Promise<boolean> {
    const retired = await this.retire(path);
    if (retired !== undefined) await this.discard(retired);
    return retired !== undefined;
  }

  async discard(path: string): Promise<void> {
    await rm(path, { recursive: true, force: true });
  }

  close(): void {
    closeSync(this.#lock);
  }

  #tmpName(): string {
    return join(this.#tmp, randomBytes(8).toString('hex'));
  }
}

// Node has no flock. The lock that flock(1) takes belongs to the open file we share with it, so it stays
// ours when that program ends, and the kernel drops it when we die.
export function lockFile(path: string): number {
  const fd = openSync(path, 'w', 0o600);
  const { status, error } = spawnSync('flock', ['--nonblock', '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] });
  if (status === 0) return fd;
  closeSync(fd);
  throw new Error(`${path} is held by another snapshot-store`, { cause: error });
}
