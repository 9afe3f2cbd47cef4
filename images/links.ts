// .build/images names the current results by what they are; the results themselves lie in the cache.
import { mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export class Links {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  // Replaces a link at once: a reader finds the old target or the new.
  async point(name: string, target: string): Promise<void> {
    const path = join(this.#root, name);
    await mkdir(dirname(path), { recursive: true });
    const temporary = `${path}.tmp-${process.pid}`;
    await symlink(target, temporary);
    await rename(temporary, path);
  }

  // Removes the links in a folder that no recipe stands behind any more.
  async keepOnly(folder: string, names: readonly string[]): Promise<void> {
    for (const name of await readdir(join(this.#root, folder)))
      if (!names.includes(name)) await rm(join(this.#root, folder, name), { force: true });
  }
}
