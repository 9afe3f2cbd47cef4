// The worker thread in which memory and disks are read in bulk, so that the event loop of the service stays free.
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';

import { messageOf } from '@wrenn/kit/errors';
import { WrennError } from '@wrenn/kit/errors';

import { Cancelled } from './adapters/file-check.ts';
import type { Answer, Order, WorkerSettings } from './adapters/job-thread.ts';
import { jobs } from './adapters/jobs.ts';
import { threadId } from './adapters/thread-id.ts';

// Linux keeps a priority for each thread.
setPriority(threadId(), (workerData as WorkerSettings).nice);

parentPort?.on('message', ({ number, kind, input, flag }: Order) => {
  const cancelled = new Int32Array(flag);
  const goOn = () => {
    if (Atomics.load(cancelled, 0) !== 0) throw new Cancelled('cancelled');
  };
  parentPort?.postMessage(
    answerTo(number, () => (jobs[kind] as (input: unknown, goOn: () => void) => unknown)(input, goOn)),
  );
});

function answerTo(number: number, work: () => unknown): Answer {
  const startMs = performance.now();
  const tookMs = () => Math.round((performance.now() - startMs) * 1000) / 1000;
  try {
    return { number, output: work(), tookMs: tookMs() };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const wrenn = error instanceof WrennError ? { reason: error.reason, meta: error.meta } : undefined;
    return {
      number,
      tookMs: tookMs(),
      failure: { message: messageOf(error), stack: (error as Error).stack, code, wrenn },
    };
  }
}
