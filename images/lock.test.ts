import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { withLock } from './lock.ts';

test('work under one lock never overlaps', async () => {
  await using dir = await tempDir();
  let inside = 0;
  let most = 0;
  const work = (): Promise<void> =>
    withLock(join(dir.path, 'lock'), async () => {
      most = Math.max(most, (inside += 1));
      await new Promise((resolve) => setImmediate(resolve));
      inside -= 1;
    });
  await Promise.all([work(), work(), work()]);
  expect(most).toBe(1);
});

test('work that fails gives the lock back', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'lock');
  const failing = withLock(path, () => Promise.reject(new Error('work failed')));
  await expect(failing).rejects.toThrow('work failed');
  expect(await withLock(path, () => Promise.resolve('again'))).toBe('again');
});

test('a builder killed with SIGKILL holds no lock', async () => {
  await using dir = await tempDir();
  const path = join(dir.path, 'lock');
  const program = `import { withLock } from ${JSON.stringify(join(import.meta.dirname, 'lock.ts'))};
    await withLock(${JSON.stringify(path)}, () => { console.log('inside'); return new Promise(() => setInterval(() => {}, 1e6)); });`;
  const builder = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(builder.stdout, 'data');
  builder.kill('SIGKILL');
  expect(await withLock(path, () => Promise.resolve('mine'))).toBe('mine');
});

test('a lock in a folder that does not exist is refused', async () => {
  await using dir = await tempDir();
  const work = withLock(join(dir.path, 'missing/lock'), () => Promise.resolve());
  await expect(work).rejects.toThrow(/cannot lock/);
});
