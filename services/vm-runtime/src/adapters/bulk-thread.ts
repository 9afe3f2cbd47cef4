// Keeps the bulk thread running and told. A thread that ends is started anew on the same port and told of
// every guest again; calls in between find nothing listening, which the gateway answers with UNAVAILABLE.
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import type { SandboxId } from '@wrenn/kit/ids';
import type { Log, LogLevel } from '@wrenn/kit/log';
import type { Family } from '@wrenn/kit/metrics/family';
import { labelled } from '@wrenn/kit/metrics/registry';

import type { BulkCounted, BulkDrained, BulkListening, BulkMessage, BulkSettings } from '../domain/bulk-guests.ts';
import type { CloseReason } from '../domain/guest-agent.ts';
import type { BulkServer } from '../domain/vm.ts';

const firstDelayMs = 50;
const maxDelayMs = 5000;
const healthyAfterMs = 10_000;
const stopLimitMs = 8000;
const drainAnswerMs = 1000;

export type StartWorker = (settings: BulkSettings) => Worker;

export const startBulkWorker: StartWorker = (workerData) =>
  new Worker(new URL('../bulk-worker.ts', import.meta.url), { workerData, name: 'bulk' });

interface RunningThread {
  readonly ended: Promise<void>;
}

export class BulkThread implements BulkServer {
  readonly #settings: BulkSettings;
  readonly #log: Log;
  readonly #startWorker: StartWorker;
  readonly #guests = new Map<SandboxId, Extract<BulkMessage, { kind: 'add' }>>();
  readonly #stopping = new AbortController();
  #worker: Worker | undefined;
  #keeping: Promise<void> | undefined;
  #port = 0;
  #counted: PromiseWithResolvers<readonly Family[]> | undefined;
  #logLevel: LogLevel;
  readonly #draining = new Map<SandboxId, (left: number) => void>();

  constructor(settings: BulkSettings, log: Log, startWorker: StartWorker = startBulkWorker) {
    this.#settings = settings;
    this.#logLevel = settings.logLevel;
    this.#log = log;
    this.#startWorker = startWorker;
  }

  // Resolves to the port once it is served; a thread that does not get that far the first time is an error.
  async start(): Promise<number> {
    this.#keeping = this.#keep(await this.#startOne());
    return this.#port;
  }

  add(sandboxId: SandboxId, guestAddress: string, accessToken: string): void {
    const message = { kind: 'add', sandboxId, guestAddress, accessToken } as const;
    this.#guests.set(sandboxId, message);
    this.#tell(message);
  }

  remove(sandboxId: SandboxId, why: CloseReason): void {
    if (this.#guests.delete(sandboxId)) this.#tell({ kind: 'remove', sandboxId, why });
  }

  // One drain of a sandbox at a time. A thread that ends has cut its transfers: nobody waits for its word.
  async drain(sandboxId: SandboxId, limitMs: number): Promise<number> {
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#draining.set(sandboxId, resolve);
    this.#tell({ kind: 'drain', sandboxId, limitMs });
    const timer = setTimeout(() => resolve(0), limitMs + drainAnswerMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#draining.delete(sandboxId);
    }
  }

  setLogLevel(logLevel: LogLevel): void {
    this.#logLevel = logLevel;
    this.#tell({ kind: 'log level', logLevel });
  }

  // What it counts. One that does not answer has nobody wait for ever: whoever asks has a limit.
  async count(): Promise<Family[]> {
    this.#counted ??= Promise.withResolvers();
    const { promise } = this.#counted;
    this.#tell({ kind: 'count' });
    return labelled(await promise, { thread: 'bulk' });
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    const cut = setTimeout(() => void this.#worker?.terminate(), stopLimitMs);
    this.#tell({ kind: 'stop' });
    await this.#keeping;
    clearTimeout(cut);
  }

  async #keep(first: RunningThread): Promise<void> {
    const { signal } = this.#stopping;
    let thread: RunningThread | undefined = first;
    let delayMs = firstDelayMs;
    while (!signal.aborted) {
      const startedAtMs = performance.now();
      await thread?.ended;
      if (performance.now() - startedAtMs > healthyAfterMs) delayMs = firstDelayMs;
      if (signal.aborted) return;
      this.#log.error({ delayMs }, 'the bulk thread ended; starting it anew');
      await sleep(delayMs, undefined, { signal }).catch(() => undefined); // Aborted: the loop ends.
      delayMs = Math.min(2 * delayMs, maxDelayMs);
      if (!signal.aborted) thread = await this.#startAnew();
    }
  }

  async #startAnew(): Promise<RunningThread | undefined> {
    try {
      return await this.#startOne();
    } catch (error) {
      this.#log.error({ err: error }, 'the bulk thread did not start');
      return undefined;
    }
  }

  // Resolves once it serves.
  async #startOne(): Promise<RunningThread> {
    const { listen } = this.#settings;
    const isFirst = this.#port === 0;
    const worker = this.#startWorker({
      ...this.#settings,
      logLevel: this.#logLevel,
      listen: isFirst ? listen : listen.replace(/:\d+$/, `:${this.#port}`),
    });
    this.#worker = worker;
    const begun = Promise.withResolvers<BulkListening>();
    const ended = Promise.withResolvers<void>();
    worker.on('message', (message: BulkListening | BulkCounted | BulkDrained) => {
      if ('port' in message) begun.resolve(message);
      else if ('drained' in message) this.#draining.get(message.drained)?.(message.left);
      else this.#hasCounted(message);
    });
    worker.on('error', (error) => {
      this.#log.error({ err: error }, 'the bulk thread failed');
      begun.reject(error);
    });
    worker.once('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      begun.reject(new Error('the bulk thread ended before it served'));
      for (const resolve of this.#draining.values()) resolve(0);
      ended.resolve();
    });
    for (const guest of this.#guests.values()) worker.postMessage(guest);
    this.#port = (await begun.promise).port;
    return { ended: ended.promise };
  }

  #hasCounted({ families }: BulkCounted): void {
    this.#counted?.resolve(families);
    this.#counted = undefined;
  }

  #tell(message: BulkMessage): void {
    this.#worker?.postMessage(message);
  }
}
