import { newSandboxId } from '@wrenn/kit/ids';
import { expect, test } from 'vitest';

import { OwnerQueue } from './owner-queue.ts';

test('runs the operations of one owner one after another, also past a failure', async () => {
  const queue = new OwnerQueue();
  const owner = newSandboxId();
  const events: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = queue.run(owner, async () => {
    events.push('first begins');
    await gate.promise;
    events.push('first ends');
    throw new Error('first failed');
  });
  const second = queue.run(owner, async () => events.push('second begins'));
  await queue.run(newSandboxId(), async () => events.push('another owner runs'));
  gate.resolve();
  await expect(first).rejects.toThrow('first failed');
  await second;
  expect(events).toEqual(['first begins', 'another owner runs', 'first ends', 'second begins']);
});
