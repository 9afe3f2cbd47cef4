import { join } from 'node:path';
import { expect, test } from 'vitest';
import { inOrder, parseRecipe, readRecipes } from './recipe.ts';

const good = {
  description: 'a test',
  base: 'bookworm',
  vcpuCount: 1,
  memoryBytes: 256 * 2 ** 20,
  diskBytes: 2 ** 30,
  defaultUser: 'user',
  packages: ['python3', 'g++'],
};

const parse = (change: object, name = 'test') => parseRecipe(name, JSON.stringify({ ...good, ...change }));

test('every recipe of the repository is valid, and comes after the one it is based on', async () => {
  const recipes = await readRecipes(join(import.meta.dirname, 'templates'));
  expect(recipes.map((recipe) => recipe.name)).toEqual(['debian', 'minimal', 'jupyter', 'node']);
});

test('a recipe based on no recipe, on itself, or on one that is not on bookworm is refused', () => {
  const base = (name: string) => parse({ base: name }, 'extended');
  const roots = [
    parse({}, 'root'),
    parse({ base: 'busybox', packages: [] }, 'small'),
    parse({ base: 'root' }, 'other'),
  ];
  expect(inOrder([base('root'), ...roots]).map(({ name }) => name)).toEqual(['root', 'small', 'extended', 'other']);
  for (const name of ['alpine', 'extended', 'small', 'other'])
    expect(() => inOrder([...roots, base(name)])).toThrow(
      `extended: base is busybox, bookworm or a recipe on bookworm`,
    );
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
  ['base', { base: 'Debian 12' }],
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
