import { AsyncLocalStorage } from 'node:async_hooks';

import { expect, test } from 'vitest';

import { type RpcSteps, type StepWatcher, WatchedSteps } from './rpc-steps.ts';

class Notes implements StepWatcher {
  readonly all: unknown[] = [];

  came(message: unknown): void {
    this.all.push(message);
  }

  failed(error: unknown): unknown {
    this.all.push((error as Error).message);
    return new Error('told');
  }

  ended(): void {
    this.all.push('ended');
  }
}

const watched = (notes: StepWatcher, call: () => RpcSteps<number>) => new WatchedSteps<number>(call, notes);
async function* stream(onLeft: () => void = () => undefined): AsyncGenerator<number, void, undefined> {
  try {
    yield 1;
    yield 2;
  } finally {
    onLeft();
  }
}
// oxlint-disable-next-line require-yield
async function* unary(): AsyncGenerator<never, number, undefined> {
  return 7;
}

test('a watcher sees each message of a stream, and its end once', async () => {
  const notes = new Notes();
  const seen = [];
  for await (const message of watched(notes, stream)) seen.push(message);
  expect(seen).toEqual([1, 2]);
  expect(notes.all).toEqual([1, 2, 'ended']);
});

test('the answer of a unary call comes as its last step', async () => {
  const notes = new Notes();
  const steps = watched(notes, unary);
  expect(await steps.next()).toEqual({ done: true, value: 7 });
  expect(await steps.next()).toEqual({ done: true, value: undefined });
  expect(notes.all).toEqual([7, 'ended']);
});

test.each([
  [
    'begins',
    () => {
      throw new Error('odd');
    },
  ],
  ['runs', () => failing()],
])('what a call fails with when it %s is told as the watcher says, and ends it', async (_when, call) => {
  const notes = new Notes();
  const steps = watched(notes, call);
  await expect(steps.next()).rejects.toThrow('told');
  expect(notes.all).toEqual(['odd', 'ended']);
  expect(await steps.next()).toEqual({ done: true, value: undefined });
});

// oxlint-disable-next-line require-yield
async function* failing(): AsyncGenerator<never, number, undefined> {
  throw new Error('odd');
}

test('a reader that leaves ends what it left', async () => {
  const notes = new Notes();
  let isLeft = false;
  for await (const _ of watched(notes, () => stream(() => (isLeft = true)))) break;
  expect(isLeft).toBe(true);
  expect(notes.all).toEqual([1, 'ended']);
});

test('a call that nobody asked a message of never begins', async () => {
  const notes = new Notes();
  let hasBegun = false;
  const steps = watched(notes, () => {
    hasBegun = true;
    return unary();
  });
  await steps.return();
  expect(hasBegun).toBe(false);
  expect(notes.all).toEqual(['ended']);
});

test('each step is made within what the watcher says, and its reader is not', async () => {
  const place = new AsyncLocalStorage<string>();
  const seen: unknown[] = [];
  async function* telling(): AsyncGenerator<number, void, undefined> {
    seen.push(place.getStore());
    yield 1;
    seen.push(place.getStore());
  }
  const watcher = { ...silent, within: <R>(step: () => R) => place.run('inside', step) };
  for await (const _ of new WatchedSteps<number>(telling, watcher)) seen.push(place.getStore());
  expect(seen).toEqual(['inside', undefined, 'inside']);
});

const silent: StepWatcher = {
  came: () => undefined,
  failed: (error) => error,
  ended: () => undefined,
};
