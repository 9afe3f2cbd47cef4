// A worker thread that does jobs one after the other. If it dies, what it was doing fails and the next job starts
// another.
import { Worker } from 'node:worker_threads';

import { type Reason, WrennError } from '@wrenn/kit/errors';
import { inSpan, inThisContext, setAttributes } from '@wrenn/kit/telemetry/span';

import type { jobs } from './jobs.ts';

type Jobs = typeof jobs;
export type JobKind = keyof Jobs;

export interface Order {
  readonly number: number;
  readonly kind: JobKind;
  readonly input: unknown;
  readonly flag: SharedArrayBuffer; // Not 0: cancelled.
}

interface Failure {
  readonly message: string;
  readonly stack: string | undefined;
  readonly code: string | undefined; // Of the kernel.
  readonly wrenn: { readonly reason: Reason; readonly meta: Readonly<Record<string, string>> } | undefined;
}

export interface Answer {
  readonly number: number;
  readonly tookMs: number;
  readonly output?: unknown;
  readonly failure?: Failure;
}

export interface WorkerSettings {
  readonly nice: number; // 0 to 19: how much it stands back for others.
}

interface Waiter {
  readonly resolve: (output: never) => void;
  readonly reject: (error: Error) => void;
  readonly tell: (tookMs: number) => void;
}

export class JobThread {
  readonly #script: URL;
  readonly #settings: WorkerSettings;
  readonly #waiters = new Map<number, Waiter>();
  #worker: Worker | undefined;
  #last = 0;

  constructor(script: URL, settings: WorkerSettings) {
    this.#script = script;
    this.#settings = settings;
  }

  run<K extends JobKind>(kind: K, input: Parameters<Jobs[K]>[0], signal?: AbortSignal): Promise<ReturnType<Jobs[K]>> {
    return inSpan(`thread: ${kind}`, {}, () => this.#run(kind, input, signal));
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  async #run<K extends JobKind>(
    kind: K,
    input: Parameters<Jobs[K]>[0],
    signal: AbortSignal | undefined,
  ): Promise<ReturnType<Jobs[K]>> {
    signal?.throwIfAborted();
    const flag = new SharedArrayBuffer(4);
    const cancel = () => Atomics.store(new Int32Array(flag), 0, 1);
    signal?.addEventListener('abort', cancel);
    const number = (this.#last += 1);
    try {
      return await new Promise((resolve, reject) => {
        // What it did not take it waited for others.
        const tell = inThisContext((tookMs: number) => setAttributes({ 'wrenn.thread.took_ms': tookMs }));
        this.#waiters.set(number, { resolve, reject, tell });
        const order: Order = { number, kind, input, flag };
        const worker = this.#running();
        worker.ref();
        worker.postMessage(order);
      });
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  #running(): Worker {
    if (this.#worker) return this.#worker;
    const worker = new Worker(this.#script, { workerData: this.#settings });
    worker.on('message', (answer: Answer) => this.#answer(answer));
    worker.on('error', (error) => this.#fail(worker, error as Error));
    worker.on('exit', () => this.#fail(worker, new Error('the worker thread ended')));
    this.#worker = worker;
    return worker;
  }

  #answer({ number, output, failure, tookMs }: Answer): void {
    const waiter = this.#waiters.get(number);
    waiter?.tell(tookMs);
    this.#waiters.delete(number);
    // Idle, it does not keep the process from ending.
    if (this.#waiters.size === 0) this.#worker?.unref();
    if (failure) waiter?.reject(errorOf(failure));
    else waiter?.resolve(output as never);
  }

  #fail(worker: Worker, error: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const waiters = [...this.#waiters.values()];
    this.#waiters.clear();
    for (const { reject } of waiters) reject(error);
  }
}

function errorOf({ message, stack, code, wrenn }: Failure): Error {
  if (wrenn) return new WrennError(wrenn.reason, message, { meta: wrenn.meta });
  return Object.assign(new Error(message), { code, ...(stack !== undefined && { stack }) });
}
