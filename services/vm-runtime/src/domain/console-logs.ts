// What guests write to their consoles, stored. QEMU keeps the last 64 KiB of each; they are taken from it every 2 s, so
// that a guest which writes faster than that loses some, and its log says so.
import { setTimeout as sleep } from 'node:timers/promises';

import type { SandboxId } from '@wrenn/kit/ids';
import type { Log } from '@wrenn/kit/log';

import type { Machine } from './vm.ts';

export interface ConsolePiece {
  readonly bytes: Uint8Array;
  readonly nextOffset: number;
}

export interface ConsoleStore {
  append(sandboxId: SandboxId, bytes: Uint8Array): Promise<void>;
  // At most 64 KiB from there, or from the first that is stored; none when there are no more.
  read(sandboxId: SandboxId, afterOffset: number): Promise<ConsolePiece>;
  endOffset(sandboxId: SandboxId): Promise<number>;
  // Takes away what is too old or too much, but for those that are written to.
  prune(isOpen: (sandboxId: SandboxId) => boolean): Promise<void>;
}

export type ConsoleSource = Pick<Machine, 'takeConsole'>;

const drainEveryMs = 2000;
const followEveryMs = 250;
const drainsPerPruning = 30;

export class ConsoleLogs {
  readonly #store: ConsoleStore;
  readonly #log: Log;
  readonly #machines = new Map<SandboxId, ConsoleSource>();
  readonly #drains = new Map<SandboxId, Promise<void>>(); // One after the other for each.
  readonly #closing = new AbortController();
  #running: Promise<void> | undefined;

  constructor(store: ConsoleStore, log: Log) {
    this.#store = store;
    this.#log = log;
  }

  add(sandboxId: SandboxId, machine: ConsoleSource): void {
    this.#machines.set(sandboxId, machine);
  }

  // Takes what it has written so far behind this call, which nobody waits for.
  remove(sandboxId: SandboxId): void {
    if (!this.#machines.has(sandboxId)) return;
    void this.#drain(sandboxId);
    this.#machines.delete(sandboxId);
  }

  // The end of it.
  async tail(sandboxId: SandboxId, maxBytes: number): Promise<Uint8Array> {
    await this.#drain(sandboxId);
    let offset = Math.max(0, (await this.#store.endOffset(sandboxId)) - maxBytes);
    const pieces: Uint8Array[] = [];
    for (;;) {
      const { bytes, nextOffset } = await this.#store.read(sandboxId, offset);
      if (bytes.length === 0) return Buffer.concat(pieces).subarray(-maxBytes);
      pieces.push(bytes);
      offset = nextOffset;
    }
  }

  // What is stored behind `afterOffset`, and what comes, while the sandbox has a VM here.
  async *follow(sandboxId: SandboxId, afterOffset: number, signal: AbortSignal): AsyncGenerator<ConsolePiece, void> {
    for (let offset = afterOffset; !signal.aborted;) {
      const isHere = this.#machines.has(sandboxId);
      await this.#drain(sandboxId);
      let piece = await this.#store.read(sandboxId, offset);
      for (; piece.bytes.length > 0; piece = await this.#store.read(sandboxId, offset)) {
        yield piece;
        offset = piece.nextOffset;
      }
      if (!isHere) return;
      await sleep(followEveryMs, undefined, { signal }).catch(() => undefined); // Aborted: the loop ends.
    }
  }

  start(): void {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    for (let n = 0; !signal.aborted; n++) {
      if (n % drainsPerPruning === 0) await this.#prune();
      for (const sandboxId of [...this.#machines.keys()]) await this.#drain(sandboxId);
      await sleep(drainEveryMs, undefined, { signal }).catch(() => undefined); // Aborted: the loop ends.
    }
  }

  #drain(sandboxId: SandboxId): Promise<void> {
    const machine = this.#machines.get(sandboxId);
    const before = this.#drains.get(sandboxId) ?? Promise.resolve();
    if (!machine) return before;
    // Asked for at once: what is asked of the machine next, comes next.
    const taken = machine.takeConsole();
    const drained = Promise.all([taken, before])
      .then(([bytes]) => (bytes.length > 0 ? this.#store.append(sandboxId, bytes) : undefined))
      .catch((error: unknown) => this.#log.debug({ err: error, sandbox: sandboxId }, 'console not stored'))
      .finally(() => this.#drains.get(sandboxId) === drained && this.#drains.delete(sandboxId));
    this.#drains.set(sandboxId, drained);
    return drained;
  }

  async #prune(): Promise<void> {
    try {
      await this.#store.prune((sandboxId) => this.#machines.has(sandboxId));
    } catch (error) {
      this.#log.warn({ err: error }, 'stored consoles not pruned');
    }
  }
}
