// The worker thread in which memory and disks are read in bulk, so that the event loop of the service stays free.
import { parentPort } from 'node:worker_threads';

import { messageOf } from '@wrenn/kit/errors';
import { WrennError } from '@wrenn/kit/errors';

import { Cancelled } from './adapters/file-check.ts';
import { type Answer, type Order } from './adapters/job-thread.ts';
import { jobs } from './adapters/jobs.ts';

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
  try {
    return { number, output: work() };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const wrenn = error instanceof WrennError ? { reason: error.reason, meta: error.meta } : undefined;
    return { number, failure: { message: messageOf(error), stack: (error as Error).stack, code, wrenn } };
  }
}
