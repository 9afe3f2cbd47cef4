// Which files were found to be what they should be. One whose device, inode, size and times are still those is not
// read again. Links and unlinks move a file's ctime, so ours are made here and noted.
import { type BigIntStats, closeSync, fstatSync, linkSync, openSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';

interface Seen {
  readonly print: string; // Size and times.
  readonly expected: string;
}

// Taken before a file is read: what changes while it is read is not verified.
export interface Mark {
  readonly inode: string;
  readonly print: string;
}

export class VerifiedFiles {
  readonly #seen = new Map<string, Seen>();

  // Undefined where there is no such file.
  mark(path: string): Mark | undefined {
    const found = statSync(path, { bigint: true, throwIfNoEntry: false });
    return found && { inode: inodeOf(found), print: printOf(found) };
  }

  isVerified(mark: Mark, expected: string): boolean {
    const seen = this.#seen.get(mark.inode);
    return seen?.print === mark.print && seen.expected === expected;
  }

  accept(mark: Mark, expected: string): void {
    this.#seen.set(mark.inode, { print: mark.print, expected });
  }

  link(from: string, to: string): void {
    const before = this.mark(from);
    linkSync(from, to);
    const after = statSync(to, { bigint: true });
    if (before) this.#moved(before, after);
  }

  // Removes a directory with its files. Large ones take a while, which the event loop must not wait for.
  async remove(directory: string): Promise<void> {
    for (const name of namesIn(directory)) this.#unlinkShared(join(directory, name));
    await rm(directory, { recursive: true, force: true });
  }

  #unlinkShared(path: string): void {
    const before = statSync(path, { bigint: true });
    const mark = { inode: inodeOf(before), print: printOf(before) };
    if (before.nlink === 1n) this.#seen.delete(mark.inode);
    if (before.nlink === 1n || !this.#seen.has(mark.inode)) return;
    const fd = openSync(path, 'r');
    try {
      unlinkSync(path);
      this.#moved(mark, fstatSync(fd, { bigint: true }));
    } finally {
      closeSync(fd);
    }
  }

  #moved(before: Mark, after: BigIntStats): void {
    const seen = this.#seen.get(before.inode);
    if (seen?.print !== before.print || inodeOf(after) !== before.inode) return;
    this.#seen.set(before.inode, { ...seen, print: printOf(after) });
  }
}

function inodeOf({ dev, ino }: BigIntStats): string {
  return `${dev}:${ino}`;
}

function printOf({ size, mtimeNs, ctimeNs }: BigIntStats): string {
  return `${size} ${mtimeNs} ${ctimeNs}`;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
