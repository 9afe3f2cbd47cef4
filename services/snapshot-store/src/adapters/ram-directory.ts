// The store's place on the RAM filesystem: staged/<snapshot id>/ holds what frozen VMs left, opened/<disk id>/ links
// to what was given out of it, so that a name given out stays good until that disk goes.
import { closeSync, existsSync, linkSync, mkdirSync, readdirSync, rmSync, rmdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';

import { lockFile } from './store-directory.ts';

export class RamDirectory {
  readonly #root: string;
  readonly #lock: number;

  private constructor(root: string, lock: number) {
    this.#root = root;
    this.#lock = lock;
  }

  static async open(root: string): Promise<RamDirectory> {
    for (const name of ['staged', 'opened']) await mkdir(join(root, name), { recursive: true, mode: 0o700 });
    return new RamDirectory(root, lockFile(join(root, 'lock')));
  }

  get staged(): string {
    return join(this.#root, 'staged');
  }

  // Removes links for disks that are no more.
  sweep(isDisk: (id: string) => boolean): void {
    for (const id of readdirSync(this.#opened)) if (!isDisk(id)) this.forget(id);
  }

  // Links files under names of its own and returns their paths.
  handOut(diskId: string, files: Readonly<Record<string, string>>): Record<string, string> {
    this.forget(diskId);
    const home = join(this.#opened, diskId);
    mkdirSync(home, { mode: 0o700 });
    const paths: Record<string, string> = {};
    for (const [name, from] of Object.entries(files)) {
      const to = join(home, name);
      if (from !== '') linkSync(from, to);
      paths[name] = from === '' ? '' : to;
    }
    return paths;
  }

  forget(diskId: string): void {
    rmSync(join(this.#opened, diskId), { recursive: true, force: true });
  }

  // Leaves no empty directory behind; one that is not empty is for the next life.
  close(): void {
    for (const path of [this.staged, this.#opened]) if (readdirSync(path).length === 0) rmdirSync(path);
    if (!existsSync(this.staged) && !existsSync(this.#opened)) rmSync(this.#root, { recursive: true });
    closeSync(this.#lock);
  }

  get #opened(): string {
    return join(this.#root, 'opened');
  }
}
