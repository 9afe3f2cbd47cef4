import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { tempDir } from '@wrenn/kit/testkit/temp-dir';
import { expect, test } from 'vitest';
import { Cache, type Step } from './cache.ts';

const quiet = (): void => undefined;

function step(root: string, value: string, build: Step['build']): Step {
  return { name: 'template:test', inputs: { root, paths: [], values: [value] }, build };
}

const writes =
  (text: string): Step['build'] =>
  async (dir) =>
    writeFile(join(dir, 'result'), text);

async function results(root: string): Promise<string[]> {
  return (await readdir(root)).filter((name) => !name.endsWith('.lock'));
}

test('a step with the same inputs is built once and then found', async () => {
  await using dir = await tempDir();
  const said: string[] = [];
  const cache = new Cache(dir.path, (text) => said.push(text));
  const first = await cache.provide(step(dir.path, 'a', writes('first')));
  const second = await cache.provide(step(dir.path, 'a', writes('second')));
  expect(second).toBe(first);
  expect(await readFile(join(second, 'result'), 'utf8')).toBe('first');
  expect(said.at(-1)).toMatch(/^template:test +cached$/);
});

test('other inputs give another result and leave the earlier one', async () => {
  await using dir = await tempDir();
  const cache = new Cache(dir.path, quiet);
  const first = await cache.provide(step(dir.path, 'a', writes('first')));
  const second = await cache.provide(step(dir.path, 'b', writes('second')));
  expect(basename(second)).toMatch(/^template-test-[0-9a-f]{12}$/);
  expect(await readFile(join(first, 'result'), 'utf8')).toBe('first');
  expect(await readFile(join(second, 'result'), 'utf8')).toBe('second');
});

test('a build that fails leaves nothing, and the next one builds', async () => {
  await using dir = await tempDir();
  const cache = new Cache(dir.path, quiet);
  const failing = step(dir.path, 'a', async (target) => {
    await writeFile(join(target, 'half'), '');
    throw new Error('no space');
  });
  await expect(cache.provide(failing)).rejects.toThrow('image step template:test: no space');
  expect(await results(dir.path)).toEqual([]);
  const built = await cache.provide(step(dir.path, 'a', writes('whole')));
  expect(await readdir(built)).toEqual(['result']);
});

test('what a killed build left is never taken for a result and is swept by the next build of that step only', async () => {
  await using dir = await tempDir();
  await mkdir(join(dir.path, 'template-test-0123456789ab.tmp/tree'), { recursive: true });
  await mkdir(join(dir.path, 'template-test-more-0123456789ab.tmp'));
  const built = await new Cache(dir.path, quiet).provide(step(dir.path, 'a', writes('whole')));
  expect((await results(dir.path)).toSorted()).toEqual(
    [basename(built), 'template-test-more-0123456789ab.tmp'].toSorted(),
  );
});

test('two builders at once build a step once', async () => {
  await using dir = await tempDir();
  let builds = 0;
  const slow: Step['build'] = async (target) => {
    builds += 1;
    await writeFile(join(target, 'result'), 'x'.repeat(1_000_000));
  };
  const builders = [1, 2, 3].map(() => new Cache(dir.path, quiet).provide(step(dir.path, 'a', slow)));
  expect(new Set(await Promise.all(builders)).size).toBe(1);
  expect(builds).toBe(1);
});
