import { glob } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseRecipe, readRecipe } from './recipe.ts';

const good = {
  description: 'a test',
  base: 'debian',
  vcpuCount: 1,
  memoryBytes: 256 * 2 ** 20,
  diskBytes: 2 ** 30,
  defaultUser: 'user',
  packages: ['python3', 'g++'],
};

const parse = (change: object, name = 'test'): unknown => parseRecipe(name, JSON.stringify({ ...good, ...change }));

test('every recipe of the repository is valid', async () => {
  const paths = await Array.fromAsync(glob(join(import.meta.dirname, 'templates/*.json')));
  const names = (await Promise.all(paths.map(readRecipe))).map((recipe) => recipe.name);
  expect(names.toSorted()).toEqual(['debian', 'minimal']);
});

test('a recipe takes its name from its file', () => {
  expect(parse({})).toEqual({ name: 'test', ...good });
});

test.each([
  ['memoryBytes', { memoryBytes: 256 * 2 ** 20 + 4096 }],
  ['memoryBytes', { memoryBytes: 32 * 2 ** 20 }],
  ['diskBytes', { diskBytes: 1000 }],
  ['vcpuCount', { vcpuCount: 0 }],
  ['vcpuCount', { vcpuCount: '1' }],
  ['defaultUser', { defaultUser: 'nobody' }],
  ['base', { base: 'alpine' }],
  ['packages', { packages: ['python3 --allow'] }],
  ['packages', { base: 'busybox' }],
  ['description', { description: undefined }],
  ['colour is not a field', { colour: 'red' }],
])('a wrong recipe is refused, naming %s: %o', (rule, change) => {
  expect(() => parse(change)).toThrow(rule);
});

test('all that is wrong is reported at once', () => {
  expect(() => parse({ vcpuCount: 99, diskBytes: -1, base: '' }, 'Bad')).toThrow(/name .*base .*vcpuCount .*diskBytes/);
});
