import { expect, test } from 'vitest';

import { UndoStack } from './undo-stack.ts';

function recording() {
  const done: string[] = [];
  const undo = new UndoStack();
  const push = (name: string, error?: Error) =>
    undo.push(async () => {
      await Promise.resolve();
      done.push(name);
      if (error) throw error;
    });
  return { done, undo, push };
}

test('releases in reverse order, each after the one before it ended', async () => {
  const { done, undo, push } = recording();
  for (const name of ['network', 'disk', 'vmm']) push(name);
  await undo.undo();
  expect(done).toEqual(['vmm', 'disk', 'network']);
});

test('a release that fails keeps no other from running, and all failures are told', async () => {
  const { done, undo, push } = recording();
  const [first, second] = [new Error('first'), new Error('second')];
  push('network');
  push('disk', second);
  push('vmm', first);
  await expect(undo.undo()).rejects.toMatchObject({ errors: [first, second] });
  expect(done).toEqual(['vmm', 'disk', 'network']);
});

test('after commit nothing is released, and undo releases once only', async () => {
  const { done, undo, push } = recording();
  push('kept');
  undo.commit();
  await undo.undo();
  push('released');
  await undo.undo();
  await undo.undo();
  expect(done).toEqual(['released']);
});
