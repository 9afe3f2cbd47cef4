import { expect, test } from 'vitest';

import { KeyedLocks } from './keyed-locks.ts';

// Work that ends when told to, and a record of what has begun.
class Bench {
  readonly locks = new KeyedLocks();
  readonly begun: string[] = [];

  work(name: string) {
    const end = Promise.withResolvers<void>();
    const run = async () => {
      this.begun.push(name);
      await end.promise;
    };
    return { run, end: end.resolve };
  }
}

const settle = () => new Promise((resolve) => setImmediate(resolve));

test('shared work under one key runs together and exclusive work waits for all of it', async () => {
  const bench = new Bench();
  const [a, b, c] = [bench.work('a'), bench.work('b'), bench.work('c')];
  const all = [bench.locks.shared('k', a.run), bench.locks.shared('k', b.run), bench.locks.exclusive('k', c.run)];
  await settle();
  expect(bench.begun).toEqual(['a', 'b']);
  a.end();
  await settle();
  expect(bench.begun).toEqual(['a', 'b']);
  b.end();
  await settle();
  expect(bench.begun).toEqual(['a', 'b', 'c']);
  c.end();
  await Promise.all(all);
});

test('exclusive work is not overtaken by shared work that came later', async () => {
  const bench = new Bench();
  const [a, b, c] = [bench.work('a'), bench.work('b'), bench.work('c')];
  const all = [bench.locks.shared('k', a.run), bench.locks.exclusive('k', b.run), bench.locks.shared('k', c.run)];
  a.end();
  await settle();
  expect(bench.begun).toEqual(['a', 'b']);
  b.end();
  await settle();
  expect(bench.begun).toEqual(['a', 'b', 'c']);
  c.end();
  await Promise.all(all);
});

test('keys do not wait for each other', async () => {
  const bench = new Bench();
  const [a, b] = [bench.work('a'), bench.work('b')];
  const all = [bench.locks.exclusive('k', a.run), bench.locks.exclusive('l', b.run)];
  await settle();
  expect(bench.begun).toEqual(['a', 'b']);
  a.end();
  b.end();
  await Promise.all(all);
});

test('work that fails frees its key, and a key nobody uses is forgotten', async () => {
  const locks = new KeyedLocks();
  const failing = locks.exclusive('k', async () => {
    throw new Error('broken');
  });
  await expect(failing).rejects.toThrow('broken');
  expect(await locks.exclusive('k', async () => 'done')).toBe('done');
  expect(locks.size).toBe(0);
});
