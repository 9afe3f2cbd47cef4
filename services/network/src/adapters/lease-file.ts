// The lease book on disk. Writers that come while one write runs share the next one.
import { readFile } from 'node:fs/promises';

import { writeDurably } from '@wrenn/kit/durable-file';
import { messageOf } from '@wrenn/kit/errors';
import type { SandboxId } from '@wrenn/kit/ids';

import { type Leases, readBook, writeBook } from '../domain/lease-book.ts';
import type { SlotRange } from '../domain/slot.ts';
import type { LeaseStore } from '../domain/slot-leases.ts';

export class LeaseFile implements LeaseStore {
  readonly #path: string;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  async read(range: SlotRange): Promise<Map<SandboxId, number>> {
    let text: string;
    try {
      text = await readFile(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
      throw error;
    }
    try {
      return readBook(text, range);
    } catch (error) {
      throw new Error(
        `cannot trust ${this.#path}: ${messageOf(error)}\n` +
          `It says which sandbox holds which network slot, and running guests depend on it.\n` +
          `Restore the file or the former slot range; or end every VM on this host, delete the file, and start again.`,
        { cause: error },
      );
    }
  }

  save(current: () => Leases): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      const write = writeDurably(this.#path, writeBook(current()), 0o600);
      this.#running = write.catch(() => undefined); // Each saver hears of its own failure.
      return write;
    });
    return this.#next;
  }
}
