import { expect, test } from 'vitest';

import { openLog } from './log.ts';
import { Shutdown } from './shutdown.ts';

const log = openLog('test', 'silent');

test('closes what was opened last first, and each thing once', async () => {
  const closed: string[] = [];
  const stop = new Shutdown(log);
  for (const name of ['database', 'server', 'poller']) stop.own(name, { close: () => void closed.push(name) });
  await Promise.all([stop.close(), stop.close()]);
  expect(closed).toEqual(['poller', 'server', 'database']);
});

test('a closer that throws, rejects or hangs keeps none of the others open', async () => {
  const closed: string[] = [];
  const stop = new Shutdown(log, 50);
  stop.own('first', { close: () => void closed.push('first') });
  stop.own('hangs', { close: () => new Promise<void>(() => undefined) });
  stop.own('rejects', { close: () => Promise.reject(new Error('no')) });
  stop.own('throws', {
    close: () => {
      throw new Error('no');
    },
  });
  await stop.close();
  expect(closed).toEqual(['first']);
});

test('a start that fails half-way closes what it had opened', async () => {
  const closed: string[] = [];
  const start = async () => {
    await using stop = new Shutdown(log);
    stop.own('database', { close: () => void closed.push('database') });
    throw new Error('cannot listen');
  };
  await expect(start()).rejects.toThrow('cannot listen');
  expect(closed).toEqual(['database']);
});
