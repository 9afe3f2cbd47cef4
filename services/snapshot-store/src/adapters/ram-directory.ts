// The store's place on the RAM filesystem: staged/<snapshot id>/ holds what frozen VMs left, opened/<disk id>/ links
// to what was given out of it, so that a name given out stays good until that disk goes. To free gigabytes of RAM
// takes a while, so what goes is renamed into trash/ and removed behind the caller's back.
import { randomBytes } from 'node:crypto';
import { closeSync, linkSync, mkdirSync, readdirSync, renameSync, rmSync, rmdirSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';

import type { Log } from '@wrenn/kit/log';

import { lockFile } from './store-directory.ts';

const names = ['staged', 'opened', 'trash'] as const;
const lockName = 'lock';

export class RamDirectory {
  readonly #root: string;
  readonly #lock: number;
  readonly #log: Log;
  readonly #removals = new Set<Promise<void>>();

  private constructor(root: string, lock: number, log: Log) {
    this.#root = root;
    this.#lock = lock;
    this.#log = log;
  }

  // Takes the directory for this process alone, until close() or death.
  static async open(root: string, log: Log): Promise<RamDirectory> {
    // VMMs pass through the directory above it.
    await mkdir(root, { recursive: true });
    for (const name of names) await mkdir(join(root, name), { recursive: true, mode: 0o700 });
    return new RamDirectory(root, lockFile(join(root, lockName)), log);
  }

  get staged(): string {
    return this.#path('staged');
  }

  // Removes what the last life had thrown away.
  async sweep(): Promise<void> {
    const trash = this.#path('trash');
    for (const name of readdirSync(trash)) await rm(join(trash, name), { recursive: true, force: true });
  }

  // Links files under names of its own and returns their paths.
  handOut(diskId: string, files: Readonly<Record<string, string>>): Record<string, string> {
    const home = this.#newHome(diskId);
    const paths = Object.entries(files).map(([name, from]) => {
      const to = join(home, name);
      linkSync(from, to);
      return [name, to] as const;
    });
    return Object.fromEntries(paths);
  }

  // Where a file for a disk can be written.
  placeFor(diskId: string, name: string): string {
    return join(this.#newHome(diskId), name);
  }

  forget(diskId: string): void {
    this.discard(join(this.#path('opened'), diskId));
  }

  forgetAllBut(isKept: (diskId: string) => boolean): void {
    for (const id of readdirSync(this.#path('opened'))) if (!isKept(id)) this.forget(id);
  }

  // Gone by its name when this returns; succeeds also when there is nothing.
  discard(path: string): void {
    const trash = join(this.#path('trash'), randomBytes(8).toString('hex'));
    try {
      renameSync(path, trash);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    const removal = rm(trash, { recursive: true, force: true }).catch((error: unknown) => {
      this.#log.error({ err: error, path: trash }, 'the next start must remove this');
    });
    this.#removals.add(removal);
    void removal.then(() => this.#removals.delete(removal));
  }

  // Leaves no empty directory behind; one that is not empty is for the next life.
  async close(): Promise<void> {
    await Promise.all(this.#removals);
    const empty = names.filter((name) => readdirSync(this.#path(name)).length === 0);
    if (empty.length === names.length) {
      for (const name of names) rmdirSync(this.#path(name));
      rmSync(this.#path(lockName));
      rmdirSync(this.#root);
    }
    closeSync(this.#lock);
  }

  #newHome(diskId: string): string {
    this.forget(diskId);
    const home = join(this.#path('opened'), diskId);
    mkdirSync(home, { mode: 0o700 });
    return home;
  }

  #path(name: string): string {
    return join(this.#root, name);
  }
}
