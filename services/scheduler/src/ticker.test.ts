import { openLog } from '@wrenn/kit/log';
import { eventually } from '@wrenn/kit/testkit/eventually';
import { expect, test } from 'vitest';

import { Ticker } from './ticker.ts';

const log = openLog('test', 'silent');

test('goes on after a run that failed', async () => {
  let runs = 0;
  const work = async () => {
    runs += 1;
    throw new Error('not this time');
  };
  const ticker = new Ticker({ name: 'test', everyMs: 1, work, log });
  await eventually('three runs', () => runs >= 3);
  await ticker.close();
});

test('starts no run while one is in progress, and none after it was closed', async () => {
  let runs = 0;
  const gate = Promise.withResolvers<void>();
  const ticker = new Ticker({
    name: 'test',
    everyMs: 1,
    log,
    work: async () => {
      runs += 1;
      await gate.promise;
    },
  });
  await eventually('the first run', () => runs === 1);
  const closed = ticker.close();
  const winner = await Promise.race([
    closed.then(() => 'closed'),
    new Promise((resolve) => setTimeout(resolve, 20, 'running')),
  ]);
  expect(winner).toBe('running');
  gate.resolve();
  await closed;
  expect(runs).toBe(1);
});
